"""The embedded faces and shapes: drawn on this machine, in the formats of the real data.

May import formats and all below them; everybody else imports `rendered.dataset` only.
To change what is drawn: raise LOOK_VERSION, so that old folders are not taken for new ones.
"""
