"""JSON lines of reviews, through Arrow: only the wanted fields are kept of each line."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from recsys_lt.errors import UserError


def read_fields(path: Path, fields: Mapping[str, str]) -> Any:
    """Columns of a JSON-lines file, gzipped or not.

    Parameters
    ----------
    path
        The file.
    fields
        Arrow type of each wanted field, by its name.

    Returns
    -------
    pyarrow.Table
        One row a line, [E]; a field missing from a line is null.

    Raises
    ------
    UserError
        The file is cut short or not JSON lines.
    """
    import pyarrow as pa
    import pyarrow.json as pjson

    schema = pa.schema([(name, pa.type_for_alias(kind)) for name, kind in fields.items()])
    try:
        return pjson.read_json(
            str(path),
            # A block must hold the longest line; reviews run to tens of kilobytes.
            read_options=pjson.ReadOptions(block_size=1 << 24),
            parse_options=pjson.ParseOptions(explicit_schema=schema, unexpected_field_behavior="ignore"),
        )
    except (pa.ArrowInvalid, OSError) as error:
        raise UserError(
            f"it cannot be read as JSON lines ({error})",
            where=path,
            remedy="Fetch the file again: it may be cut short",
        ) from error
