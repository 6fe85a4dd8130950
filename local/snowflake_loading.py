"""COPY and PUT as Snowflake has them, in place of fakesnow's."""

from __future__ import annotations

import datetime
import os
import re
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import duckdb
import fakesnow.copy_into as theirs
import fakesnow.cursor
import fakesnow.server
import fakesnow.transforms
import fakesnow.transforms.stage as stages
from snowflake.connector.errors import ProgrammingError
from snowflake_sessions import error_logging, is_true, split_location, unquoted
from sqlglot import Expr, exp

if TYPE_CHECKING:
    from snowflake_sessions import Connection, Session
    from starlette.requests import Request

_REMEMBERED = datetime.timedelta(days=64)
_PUT_SOURCE = re.compile(r"\s*PUT\s+('(?:[^'\\]|\\.|'')*'|\S+)", re.IGNORECASE)
_RESULT = (
    "file",
    "status",
    "rows_parsed",
    "rows_loaded",
    "error_limit",
    "errors_seen",
    "first_error",
    "first_error_line",
    "first_error_character",
    "first_error_column_name",
)

# Reads the fields of files. Other threads may be busy with the connection of the module duckdb itself.
READER = duckdb.connect()

inserts_of = theirs._inserts
put_stage = fakesnow.transforms.put_stage


def install() -> None:
    """Put these in fakesnow's place."""
    fakesnow.cursor.copy_into = copy_into
    theirs._inserts = inserts_without_missing_fields
    theirs._from_source = from_source
    fakesnow.transforms.put_stage = put_stage_in_quotes
    fakesnow.server.gcs_stage_info = stage_info


def copy_into(  # noqa: PLR0917 -- fakesnow calls it so
    duck: Connection,
    database: str | None,
    schema: str | None,
    expression: exp.Copy,
    table_stages: stages.TableStages,
    params: Any = None,
) -> str:
    """Load the files of a location that the table hasn't loaded before; return SQL for the answer.

    The load history is the table's, lasts for 64 days, and is rolled back with the transaction.
    """
    session: Session = duck.session
    expression = expression.transform(_scan_time)
    expression.set("params", [each for each in expression.args.get("params") or [] if not is_off(each)])
    options = theirs._params(
        expression, params, duck_conn=duck, current_database=database, current_schema=schema
    )
    table = theirs._extract_table(expression.this)
    named = (table.catalog or database or "", table.db or schema or "", table.name)
    opted_out = is_true(session.parameters.get("OPT_OUT_ERROR_LOGGING", False))
    if session.refuses_error_logging and named in error_logging and not opted_out:
        message = "SQL compilation error:\nCOPY INTO is not supported for tables with ERROR_LOGGING = TRUE."
        raise ProgrammingError(message, errno=2, sqlstate="0A000")
    source = from_source(expression)
    if source.startswith("@"):
        stage, path = split_location(source[1:])
        url = theirs.stage_url_from_var(stage, duck, database, schema, table_stages, table)
        source = f"{url.rstrip('/')}/{path}"
    urls = theirs._source_urls(source, options.files) if options.files else theirs._source_glob(source, duck)
    history = f'"{named[0]}"._fs_information_schema._fs_load_history'
    if not options.force:
        loaded = duck.execute(
            f"SELECT FILE_NAME FROM {history} WHERE SCHEMA_NAME = ? AND TABLE_NAME = ? "
            "AND LAST_LOAD_TIME::TIMESTAMPTZ > ?",
            [named[1], named[2], datetime.datetime.now(datetime.UTC) - _REMEMBERED],
        ).fetchall()
        urls = [url for url in urls if (url,) not in set(loaded)]
    if not urls:
        sql = "SELECT 'Copy executed with 0 files processed.' AS status"
        duck.execute(sql)
        return sql
    return _load(duck, expression, options, urls, named=named, history=history, params=params)


def _scan_time(node: exp.Expression) -> exp.Expression:
    """METADATA$START_SCAN_TIME: when COPY began to read a file."""
    asked = isinstance(node, exp.Column) and node.name.upper() == "METADATA$START_SCAN_TIME"
    return exp.CurrentTimestamp() if asked else node


def _load(
    duck: Connection,
    expression: exp.Copy,
    options: theirs.CopyParams,
    urls: list[str],
    *,
    named: tuple[str, str, str],
    history: str,
    params: Any,
) -> str:
    now = datetime.datetime.now(datetime.UTC).isoformat()
    rows = []
    try:
        inserts = theirs._inserts(expression, options, urls, _parquet(duck, expression, options, urls, named))
        for insert, url in zip(inserts, urls, strict=True):
            duck.execute(insert.sql(dialect="duckdb"), params)
            count = duck.fetchall()[0][0]
            rows.append((url, count))
            duck.execute(
                f"INSERT INTO {history} VALUES (?, ?, ?, ?, 'LOADED', ?, ?, NULL, NULL, NULL, NULL, 0, 1)",
                [named[1], url, named[2], now, count, count],
            )
    except duckdb.HTTPException as error:
        raise ProgrammingError(msg=error.args[0], errno=91016, sqlstate="22000") from None
    except duckdb.ConversionException as error:
        raise ProgrammingError(msg=error.args[0], errno=100038, sqlstate="22018") from None
    if options.purge:
        for url in urls:
            path = stages.file_path(url)
            if stages.is_internal(path):
                duck.session.put_away(path)
    values = [
        (theirs._result_file_name(url), "LOADED", count, count, 1, 0, None, None, None, None)
        for url, count in rows
    ]
    sql = exp.select("*").from_(exp.values(values, alias="t", columns=_RESULT)).sql(dialect="duckdb")
    duck.execute(sql)
    return sql


def _parquet(
    duck: Connection,
    expression: exp.Copy,
    options: theirs.CopyParams,
    urls: list[str],
    named: tuple[str, str, str],
) -> theirs.ParquetLoadInfo | None:
    """What fakesnow must know of Parquet files that are loaded without a SELECT."""
    if not isinstance(options.file_format, theirs.ReadParquet) or isinstance(
        expression.args["files"][0], exp.Subquery
    ):
        return None
    table = theirs._extract_table(expression.this)
    fields = {url: theirs._get_parquet_column_names(url, duck) for url in urls}
    if options.match_by_column_name != theirs.MatchByColumnName.NONE:
        columns = theirs._get_table_columns(table, duck, named[0], named[1])
        return theirs.ParquetLoadInfo(fields, target_columns=columns)
    columns = theirs._describe_table(table, duck, named[0], named[1])
    if len(columns) != 1 or columns[0][1] != "JSON":
        message = "SQL compilation error:\nPARQUET file format can produce one and only one column"
        raise ProgrammingError(message, errno=2019, sqlstate="0A000")
    return theirs.ParquetLoadInfo(fields, is_single_variant=True)


def is_off(option: Expr) -> bool:
    """Whether a copy option is FORCE = FALSE or PURGE = FALSE; fakesnow looks at the names alone."""
    value = option.args.get("expression")
    return (
        option.name.upper() in {"FORCE", "PURGE"} and value is not None and not is_true(value.name or value)
    )


def from_source(expression: exp.Copy) -> str:
    """The location that a COPY reads, in single quotes or without."""
    source = expression.args["files"][0].this
    if isinstance(source, exp.Select):
        source = source.args["from_"].this
        while not isinstance(source, str | exp.Var | exp.Literal):
            source = source.this
    return source if isinstance(source, str) else source.name


def inserts_without_missing_fields(expr: Any, params: Any, urls: list[str], *args: Any) -> list[Any]:
    """The INSERT of each file of a COPY, with NULL for the fields that a Parquet file lacks."""
    inserts = [insert.copy() for insert in inserts_of(expr, params, urls, *args)]
    if isinstance(params.file_format, theirs.ReadParquet) and isinstance(expr.args["files"][0], exp.Subquery):
        for insert, url in zip(inserts, urls, strict=True):
            with READER.cursor() as own:
                fields = {name.lower() for name in theirs._get_parquet_column_names(url, own)}

            def present(node: Expr, fields: set[str] = fields) -> Expr:
                lacking = isinstance(node, exp.Identifier) and node.this.lower() not in fields
                return exp.Null() if lacking else node

            select = insert.expression
            select.set("expressions", [item.transform(present) for item in select.expressions])
    return inserts


def put_stage_in_quotes(expression: Expr, *args: Any) -> Expr:
    """PUT with the location in single quotes, and with any character in the path of the file."""
    if not isinstance(expression, exp.Put):
        return expression
    source = expression.this.name
    target = expression.args["target"]
    text = target.name
    if text.startswith("'"):
        text = unquoted(text)
    # fakesnow reads the path as a URL.
    expression.set("this", exp.Literal.string("file:///file"))
    expression.set("target", exp.Var(this=text))
    transformed = put_stage(expression, *args)
    path = source.removeprefix("file://")
    transformed.args["put_stage_data"]["src_locations"] = [path]
    properties = {
        (each.this.name if isinstance(each.this, Expr) else str(each.this)).upper(): each
        for each in expression.args.get("properties") or []
    }
    overwrite = properties.get("OVERWRITE")
    transformed.args["put_stage_data"]["overwrite"] = (
        overwrite is not None and "TRUE" in str(overwrite).upper()
    )
    return transformed


def stage_info(
    request: Request, expression: Expr, put_stage_data: stages.UploadCommandDict
) -> dict[str, Any]:
    """Where to upload the file: to this server."""
    folder = put_stage_data["stageInfo"]["location"]
    file = os.path.join(folder, os.path.basename(put_stage_data["src_locations"][0]))
    path = quote(os.path.relpath(file, stages.LOCAL_BUCKET_PATH))
    return {
        "locationType": "GCS",
        "location": f"{expression.args['put_stage_name']}/",
        "path": "",
        "region": "local",
        "creds": {},
        "presignedUrl": f"{request.url.scheme}://{request.url.netloc}/fs_bucket/{path}",
    }
