// Keeps the page as the server tells: what there is, what of it is shown, and what is chosen.

import { look } from './datapath.js';
import { ofBundle, ofGroup, wayOf } from './details.js';
import { element } from './element.js';
import { parse } from './filter.js';
import { ServiceMap, bundle } from './map.js';
import { show } from './passport.js';
import { Table } from './table.js';

const $ = (id) => document.getElementById(id);

const state = {
  lab: '',
  groups: new Map(),
  edges: new Map(),
  rows: new Map(),
  bundles: new Map(),
  now: 0,
  matches: null, // what says whether a row is shown
  chosen: null, // { group } or { bundle }
  way: undefined, // of a packet as those of the chosen bundle
  short: (node) => (node.startsWith(`${state.lab}-`) ? node.slice(state.lab.length + 1) : node),
};

const map = new ServiceMap($('map'), choose);
const table = new Table($('rows'), $('shown'), (id) => {
  const edge = state.edges.get(state.rows.get(id)?.edge);
  if (edge) choose({ bundle: `${edge.from}-${edge.to}-${edge.protocol}` });
});

function choose(what) {
  state.chosen = what;
  draw();
}

// take brings state up to date with what the server tells.
function take(update) {
  if (update.reset) for (const kind of [state.groups, state.edges, state.rows]) kind.clear();
  for (const id of update.gone ?? []) ({ g: state.groups, e: state.edges, f: state.rows })[id[0]].delete(id);
  for (const group of update.groups ?? []) state.groups.set(group.id, group);
  for (const edge of update.edges ?? []) state.edges.set(edge.id, edge);
  for (const row of update.rows ?? []) state.rows.set(row.id, Object.assign(row, { order: Number(row.id.slice(1)) }));
  state.now = update.now;
  state.lab = update.lab;
  head(update);
  draw();
}

function head(update) {
  $('lab').textContent = update.lab;
  document.title = `${update.lab} · wirelab`;
  $('rate').textContent = update.rate.toLocaleString();
  const drops = [...state.edges.values()].reduce((sum, edge) => sum + edge.dropRate, 0);
  $('drops').hidden = drops === 0;
  $('drop-rate').textContent = (Math.round(drops * 10) / 10).toLocaleString();
  tell('live', update.lost ? `live, ${update.lost.toLocaleString()} flows lost` : 'live');
  const key = JSON.stringify(update.nodes);
  if (head.nodes === key) return;
  head.nodes = key;
  $('nodes').replaceChildren(...update.nodes.map((node) => {
    const li = document.createElement('li');
    const lamp = document.createElement('span');
    lamp.className = 'lamp';
    li.dataset.state = node.away ? 'away' : 'live';
    li.title = node.away ? `tells nothing: ${node.away}` : 'tells of its flows';
    li.append(lamp, state.short(node.name) + (node.away ? ' is away' : ''));
    return li;
  }));
}

function tell(how, text) {
  $('state').dataset.state = how;
  if ($('state-text').textContent !== text) $('state-text').textContent = text;
}

function draw() {
  const { groups, edges, rows } = withoutHealth();
  state.bundles = bundle(edges);
  $('empty').hidden = groups.size > 0;
  const shown = shownOnMap();
  map.draw(groups, state.bundles, state.now, shown);
  table.draw(rows, state.matches, state.short);
  drawChosen();
  drawEdgeList();
}

// withoutHealth is what there is without what agents send to probe each other, unless that is asked for.
function withoutHealth() {
  if ($('health').checked) return state;
  const left = (of, leave) => new Map([...of].filter(([, value]) => !leave(value)));
  const probes = (group) => state.groups.get(group)?.kind === 'health';
  const edges = left(state.edges, (edge) => probes(edge.from) || probes(edge.to));
  return {
    groups: left(state.groups, (group) => group.kind === 'health'), edges,
    rows: left(state.rows, (row) => state.edges.has(row.edge) && !edges.has(row.edge)),
  };
}

// shownOnMap are the ids of what matches the filter; null where there is none.
function shownOnMap() {
  if (!state.matches) return null;
  const shown = new Set();
  for (const row of state.rows.values()) {
    const edge = state.matches(row) && state.edges.get(row.edge);
    if (edge) shown.add(edge.from).add(edge.to).add(`${edge.from}-${edge.to}-${edge.protocol}`);
  }
  return shown;
}

function drawChosen() {
  const group = state.groups.get(state.chosen?.group);
  const edges = state.bundles.get(state.chosen?.bundle);
  map.select(group?.id ?? edges?.id ?? null);
  table.select(new Set(edges?.edges.map((edge) => edge.id)));
  $('details').hidden = !group && !edges;
  if (group) $('details-body').replaceChildren(...ofGroup(group, state));
  if (edges) $('details-body').replaceChildren(...ofBundle(edges, state));
  state.way = edges && wayOf(edges, state);
  $('explain').hidden = !state.way;
}

// drawEdgeList says what the map shows in words, for those who do not see it.
function drawEdgeList() {
  const name = (id) => state.groups.get(id)?.name ?? '';
  const lines = [...state.bundles.values()].slice(0, 200).map((b) => `${name(b.from)} to ${name(b.to)}, ${b.name}${b.says ? `, ${b.says}` : ''}`);
  const text = lines.join('\n');
  if (drawEdgeList.text === text) return;
  drawEdgeList.text = text;
  $('edges').replaceChildren(...lines.map((line) => element('li', line)));
}

function filterChanged() {
  const value = (name) => document.querySelector(`input[name="${name}"]:checked`).value;
  state.matches = parse($('filter').value, value('verdict'), value('protocol'));
  draw();
}

$('bar').addEventListener('input', filterChanged);
$('close').addEventListener('click', () => choose(null));
for (const id of ['datapath-open', 'datapath-again']) $(id).addEventListener('click', () => look(state.short));
$('explain').addEventListener('click', () => show(state.way));
document.addEventListener('keydown', (event) => {
  if ($('passport').open || $('datapath').open) return; // whose keys are the browser's
  const typing = event.target.id === 'filter';
  if (event.key === '/' && !typing) {
    $('filter').focus();
    $('filter').select();
  } else if (event.key === 'd' && !typing && !event.ctrlKey && !event.metaKey && !event.altKey) {
    look(state.short);
  } else if (event.key === 'Escape' && state.chosen && !typing) {
    choose(null);
  } else if (event.key === 'Escape' && (typing || state.matches)) {
    $('filter').value = '';
    for (const radio of document.querySelectorAll('input[type="radio"][value=""]')) radio.checked = true;
    filterChanged();
    if (typing) $('map').focus();
  } else {
    return;
  }
  event.preventDefault();
});

const updates = new EventSource('updates');
updates.onmessage = (event) => take(JSON.parse(event.data));
updates.onerror = () => tell('away', updates.readyState === EventSource.CLOSED ? 'refused: is lab ui still running?' : 'lab ui does not answer: trying again');
