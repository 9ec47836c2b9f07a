// The panel beside the map: what a card or an arrow stands for.

import { element } from './element.js';

function list(items) {
  const ul = document.createElement('ul');
  for (const [left, right, red] of items) {
    const li = document.createElement('li');
    if (red) li.className = 'red';
    li.append(element('span', left), element('span', right));
    ul.append(li);
  }
  return ul;
}

const named = (group) => (group?.namespace ? `${group.namespace}/${group.name}` : group?.name ?? '?');
const rates = (edge) => [edge.rate || !edge.dropRate ? `${edge.rate}/s` : '', edge.dropRate ? `${edge.dropRate}/s dropped` : ''].filter(Boolean).join(', ');

const most = 100; // pods in the panel

export function ofGroup(group, state) {
  const out = [element('h2', named(group))];
  if (group.kind === 'pods') {
    out.push(element('h3', group.pods.length === 1 ? '1 pod' : `${group.pods.length} pods`));
    out.push(list(group.pods.slice(0, most).map((pod) => [pod.name, pod.node ? state.short(pod.node) : '', pod.red])));
    if (group.pods.length > most) out.push(element('p', `and ${group.pods.length - most} more`));
  }
  for (const [title, here, there] of [['Sends to', 'from', 'to'], ['Is sent to by', 'to', 'from']]) {
    const edges = [...state.edges.values()].filter((edge) => edge[here] === group.id);
    if (!edges.length) continue;
    out.push(element('h3', title));
    out.push(list(edges.map((edge) => [`${named(state.groups.get(edge[there]))} · ${edge.protocol}${edge.port ? ` ${edge.port}` : ''}`, rates(edge), edge.red])));
  }
  return out;
}

export function ofBundle(bundle, state) {
  const from = state.groups.get(bundle.from);
  const to = state.groups.get(bundle.to);
  const out = [element('h2', `${named(from)} → ${named(to)}`), element('p', bundle.protocol)];
  if (bundle.edges.some((edge) => edge.port)) {
    out.push(element('h3', 'Ports'));
    out.push(list(bundle.edges.map((edge) => [String(edge.port ?? ''), rates(edge), edge.red])));
  } else {
    out.push(element('p', rates(bundle.edges[0])));
  }
  const dropped = bundle.edges.filter((edge) => edge.dropped);
  if (dropped.length) {
    out.push(element('h3', 'Dropped'));
    out.push(list(dropped.map((edge) => [`${edge.port ? `${edge.port}: ` : ''}${edge.reason}`, `${edge.dropped} packets`, edge.red])));
  }
  const way = wayOf(bundle, state);
  if (way) {
    out.push(element('h3', 'The whole way of one packet'));
    out.push(element('code', `lab explain ${way.from} \\\n  ${way.to} \\\n  --proto ${way.protocol} --name ${state.lab}`));
  }
  return out;
}

// wayOf is a packet as those of an arrow, of the dropped ones if there are any; undefined where no pod has sent one.
export function wayOf(bundle, state) {
  const ids = new Set(bundle.edges.map((edge) => edge.id));
  const rows = [...state.rows.values()].filter((row) => ids.has(row.edge));
  rows.sort((a, b) => Number(b.verdict === 'dropped') - Number(a.verdict === 'dropped') || b.time - a.time);
  const row = rows.find((one) => one.from.pod && (one.to.pod || one.to.addr));
  if (!row) return undefined;
  const target = row.to.pod ? `${row.to.namespace}/${row.to.pod}` : row.to.addr;
  return { from: `${row.from.namespace}/${row.from.pod}`, to: row.port ? `${target}:${row.port}` : target, protocol: row.protocol };
}
