"""What a run's files came from, and whether that is still there."""

from facelib.digests import digest_values
from facelib.errors import UserError
from facelib.safety.seal import read_seal


def evaluation_key(run) -> str | None:
    """Digest of what eval.json comes from: configuration and checkpoint. None without checkpoint.

    Args:
        run: a `facelib.runs.folder.Run`.
    """
    if not run.checkpoint.is_file():
        return None
    return digest_values(
        [run.config.digest(), read_seal(run.checkpoint).decode("ascii", "replace")]
    )


def unfinished(run) -> str:
    """What to say of figures of a run whose training has not come to its end; else ""."""
    state = run.state
    if state in ("new", "done"):  # new: its status is gone, or it is of an earlier version
        return ""
    status = run.status
    return (
        f"{run.name} is not finished ({state} at step {status.get('step', 0)} of "
        f"{status.get('steps')}): its figures are of that step; go on with: "
        f"python -m facelib train --run {run.name}"
    )


def why_stale(run, report: dict) -> str:
    """Why the figures of an eval.json are not those of its run; "" where they are."""
    if reason := unfinished(run):
        return reason
    key = evaluation_key(run)
    if key is not None and report.get("key", key) != key:
        return (
            f"{run.path / 'eval.json'}: figures of another checkpoint or configuration; evaluate "
            f"again: python -m facelib eval {run.name}"
        )
    return ""


def check_name(run) -> None:
    """UserError where a run's configuration does not belong to the folder it lies in."""
    if run.path.name != run.config.run_name:
        raise UserError(
            f"{run.path / 'config.json'}: its settings belong to a run called "
            f"{run.config.run_name}: edited by hand, or the folder was renamed; put them back, or "
            "start a run of its own: python -m facelib train --set KEY=VALUE"
        )
