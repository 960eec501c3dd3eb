"""Formulas of the site as inline SVG, drawn by matplotlib's own TeX parser.

The site loads nothing from a network, so it has no MathJax. A formula that matplotlib cannot parse
(`\\begin{cases}`, say) is shown as its source instead.
"""

import functools
import html
import logging
import re

log = logging.getLogger(__name__)
EM = 100  # units of the drawing per em
SYNONYMS = {
    r"\\tfrac(?![a-zA-Z])": r"\\frac",
    r"\\[lr]Vert(?![a-zA-Z])": r"\\Vert ",
    r"\\[lr]vert(?![a-zA-Z])": r"\\vert ",
    r"\\(?:big|Big|bigg|Bigg)[lr]?(?![a-zA-Z])": "",
    r"\\(?:le|ge|ne)(?![a-zA-Z])": lambda match: f"{match.group()}q",
    r"\\(?:limits|displaystyle|nolimits)(?![a-zA-Z])": "",
}


@functools.lru_cache(maxsize=512)
def formula_html(tex: str, display: bool) -> str:
    """One formula, without its dollars, as HTML: inline on the base line, or a block of its own."""
    source = " ".join(tex.split())
    try:
        drawing = _draw(re.sub(r"\\c?frac(?![a-zA-Z])", r"\\dfrac", source) if display else source)
    except (ValueError, AttributeError) as error:  # the latter for a formula of spaces only
        log.warning("formula shown as source, matplotlib cannot parse it: %s", source)
        log.debug("%s", error)
        drawing = f"<code>{html.escape(source)}</code>"
    return f'<div class="formula">{drawing}</div>' if display else drawing


def _draw(tex: str) -> str:
    from matplotlib.font_manager import FontProperties
    from matplotlib.mathtext import MathTextParser
    from matplotlib.textpath import TextPath

    for pattern, replacement in SYNONYMS.items():
        tex = re.sub(pattern, replacement, tex)
    font = FontProperties(size=EM, math_fontfamily="stix")
    width, height, depth, *_ = MathTextParser("path").parse(f"${tex}$", 72, font)
    path = TextPath((0, 0), f"${tex}$", size=EM, prop=font)
    margin = 4  # antialiasing and overhanging letters
    box = f"{-margin} {depth - height - margin:.0f} {width + 2 * margin:.0f} "
    box += f"{height + 2 * margin:.0f}"
    style = f"width:{(width + 2 * margin) / EM:.3f}em;height:{(height + 2 * margin) / EM:.3f}em;"
    style += f"vertical-align:{-(depth + margin) / EM:.3f}em"
    return (
        f'<svg class="math" role="img" aria-label="{html.escape(tex)}" viewBox="{box}" '
        f'style="{style}"><path d="{_svg_path(path)}"/></svg>'
    )


def _svg_path(path) -> str:
    """Outlines in SVG's letters; its y axis points down."""
    letters = {path.MOVETO: "M", path.LINETO: "L", path.CURVE3: "Q", path.CURVE4: "C"}
    parts = []
    for points, code in path.iter_segments(simplify=False):
        if code == path.CLOSEPOLY:
            parts.append("Z")
        else:
            flipped = (f"{x:.1f} {-y:.1f}" for x, y in points.reshape(-1, 2))
            parts.append(letters[code] + " ".join(flipped))
    return "".join(parts)
