// What the table and the map show: words and key:value pairs that are typed, a verdict and a protocol.

const text = (end) => [end.namespace && end.pod ? `${end.namespace}/${end.pod}` : '', end.name, end.addr].filter(Boolean).join(' ');

const keys = {
  pod: (row, value) => [row.from, row.to].some((end) => end.pod?.startsWith(value) || `${end.namespace}/${end.pod}`.startsWith(value)),
  ns: (row, value) => [row.from.namespace, row.to.namespace].includes(value),
  port: (row, value) => String(row.port ?? '') === value,
  node: (row, value) => row.node.includes(value),
  reason: (row, value) => row.reason.includes(value),
  proto: (row, value) => row.protocol === value,
  verdict: (row, value) => row.verdict.startsWith(value),
};

// parse returns what says of a row whether it is shown; null where every one is.
export function parse(typed, verdict, protocol) {
  const tests = [];
  for (const word of typed.toLowerCase().split(/\s+/).filter(Boolean)) {
    const colon = word.indexOf(':');
    const test = colon > 0 && keys[word.slice(0, colon)];
    const value = word.slice(colon + 1);
    if (test) {
      if (value) tests.push((row) => test(row, value));
    } else {
      tests.push((row) => `${text(row.from)} ${text(row.to)} ${row.protocol} ${row.port ?? ''} ${row.verdict} ${row.reason} ${row.node}`.toLowerCase().includes(word));
    }
  }
  if (verdict) tests.push((row) => row.verdict === verdict);
  if (protocol) tests.push((row) => row.protocol === protocol);
  return tests.length ? (row) => tests.every((test) => test(row)) : null;
}
