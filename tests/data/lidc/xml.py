"""Files of LIDC-IDRI as its readers' software wrote them, with nodules of our own."""


def message(series_uid, sessions):
    """One file; `sessions` has what each reader marked."""
    read = "".join(
        f"<readingSession><annotationVersion>3.12</annotationVersion>{''.join(marks)}</readingSession>"
        for marks in sessions
    )
    return (
        '<?xml version="1.0" encoding="UTF-8"?><LidcReadMessage uid="1.3.6" xmlns="http://www.nih.gov">'
        f"<ResponseHeader><Version>1.8.1</Version><SeriesInstanceUid>{series_uid}</SeriesInstanceUid></ResponseHeader>"
        f"{read}</LidcReadMessage>"
    )


def nodule(rois, malignancy=None):
    rated = "" if malignancy is None else f"<characteristics><malignancy>{malignancy}</malignancy></characteristics>"
    return f"<unblindedReadNodule><noduleID>1</noduleID>{rated}{rois}</unblindedReadNodule>"


def ring(slice_uid, x=10, y=10, radius=2):
    """A square ring of pixels: (2·radius − 1)² pixels lie inside."""
    side = range(-radius, radius)
    points = [(x + k, y - radius) for k in side] + [(x + radius, y + k) for k in side]
    points += [(x - k, y + radius) for k in side] + [(x - radius, y - k) for k in side]
    edges = "".join(f"<edgeMap><xCoord>{px}</xCoord><yCoord>{py}</yCoord></edgeMap>" for px, py in points)
    return (
        f"<roi><imageZposition>0</imageZposition><imageSOP_UID>{slice_uid}</imageSOP_UID>"
        f"<inclusion>TRUE</inclusion>{edges}</roi>"
    )
