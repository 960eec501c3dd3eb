"""The explorer: scores, thresholds and pairs of evaluated runs, in a notebook or one HTML file.

`gather.py` collects the data, `explorer.js` and `explorer.css` show them; `page.py` writes a file
that needs no network, `widget.py` shows the same in JupyterLab. A new view is a part of the `.js`.
"""
