"""SVG elements as text, and the frame of every chart of the page."""

from collections.abc import Sequence

from skyflowctl.audit.html.text import text


def tag(name: str, content: str = "", /, **attributes: object) -> str:
    """Return an element; ``class_`` means ``class``, ``_`` in names becomes ``-``, None is omitted.

    ``content`` must already be escaped; attributes are escaped here.
    """
    given = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{text(_value(value))}"'
        for key, value in attributes.items()
        if value is not None
    )
    return f"<{name}{given}>{content}</{name}>"


def _value(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.2f}".rstrip("0").rstrip(".")
    return str(value)


def words(content: str, x: float, y: float, class_: str = "", **attributes: object) -> str:
    """Return a line of text; ``content`` is escaped here."""
    return tag("text", text(content), x=x, y=y, class_=class_ or None, **attributes)


def drawing(
    ident: str,
    size: tuple[int, int],
    title: str,
    description: str,
    content: str,
    *,
    class_: str,
) -> str:
    """Return a drawing that a screen reader announces as one image with this label."""
    head = tag("title", text(title), id=f"{ident}-t") + tag(
        "desc", text(description), id=f"{ident}-d"
    )
    return tag(
        "svg",
        head + content,
        viewBox=f"0 0 {size[0]} {size[1]}",
        role="img",
        class_=class_,
        aria_labelledby=f"{ident}-t",
        aria_describedby=f"{ident}-d",
    )


def figures(caption: str, head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a chart's figures as a folded plain table. All texts must already be escaped."""
    top = "".join(f'<th scope="col">{each}</th>' for each in head)
    body = "".join(
        f'<tr><th scope="row">{row[0]}</th>'
        + "".join(f"<td>{each}</td>" for each in row[1:])
        + "</tr>"
        for row in rows
    )
    return (
        f'<details class="figures"><summary>{caption} as a table</summary>'
        f'<div class="scroll" tabindex="0" role="region" aria-label="{caption} as a table">'
        f'<table class="plain"><caption class="unseen">{caption}</caption>'
        f"<thead><tr>{top}</tr></thead><tbody>{body}</tbody></table></div></details>"
    )


def nice_steps(most: int, steps: int) -> list[int]:
    """Return the ticks of an axis from 0 to at least ``most``, as round whole numbers."""
    most = max(most, 1)
    size = 1
    while True:
        for factor in (1, 2, 5):
            if size * factor * steps >= most:
                step = size * factor
                return [step * at for at in range(-(-most // step) + 1)]
        size *= 10
