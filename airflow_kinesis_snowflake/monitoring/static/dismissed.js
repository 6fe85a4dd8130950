// Applications that somebody doesn't want to see any more, because nothing drains them. This browser remembers
// them, and forgets one when it is drained again.

const PLACE = "kinesis-snowflake-dismissed";

function stored() {
  try {
    return JSON.parse(window.localStorage.getItem(PLACE)) ?? {};
  } catch {
    return {};
  }
}

const key = (line) => JSON.stringify([line.application, line.stream, ...(line.place ? [line.arn] : [])]);

export function dismissed(line) {
  return line.gone && (stored()[key(line)] ?? -1) >= (line.last_began ?? 0);
}

export function dismiss(line) {
  window.localStorage.setItem(PLACE, JSON.stringify({ ...stored(), [key(line)]: line.last_began ?? 0 }));
}

export function restore(line) {
  const { [key(line)]: _, ...others } = stored();
  window.localStorage.setItem(PLACE, JSON.stringify(others));
}
