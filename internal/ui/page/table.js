// The table of flows, those that began last first, so that lines stay where they are while they count.

import { element } from './element.js';

const most = 200;

const clock = new Intl.DateTimeFormat(undefined, { hour: '2-digit', minute: '2-digit', second: '2-digit', hour12: false });

function cell(tr, name, ...content) {
  const td = document.createElement('td');
  td.className = name;
  td.append(...content);
  tr.append(td);
  return td;
}

function endCell(tr, end) {
  const content = end.pod ? [element('span', `${end.namespace}/`, 'ns'), end.pod] : [end.name || '', element('span', end.addr && end.name ? ` ${end.addr}` : end.addr || '', 'ns')];
  cell(tr, 'end', ...content).title = end.pod || `${end.name || ''} ${end.addr || ''}`;
}

export class Table {
  // pick is called with the row that was chosen.
  constructor(body, shown, pick) {
    this.body = body;
    this.shown = shown;
    this.lines = new Map(); // of what is shown, by the row's id
    const chosen = (event) => event.target.closest('tr')?.dataset.id;
    body.addEventListener('click', (event) => chosen(event) && pick(chosen(event)));
    body.addEventListener('keydown', (event) => {
      const tr = event.target.closest('tr');
      const to = { ArrowDown: tr?.nextElementSibling, ArrowUp: tr?.previousElementSibling, Home: body.firstElementChild, End: body.lastElementChild }[event.key];
      if (to) this.focus(to);
      else if (event.key === 'Enter' && tr) pick(tr.dataset.id);
      else return;
      event.preventDefault();
    });
  }

  focus(tr) {
    this.body.querySelector('tr[tabindex="0"]')?.setAttribute('tabindex', '-1');
    tr.setAttribute('tabindex', '0');
    tr.focus();
    tr.scrollIntoView({ block: 'nearest' });
  }

  draw(rows, matches, short) {
    const picked = [];
    let all = 0;
    for (const row of rows.values()) if (!matches || matches(row)) { all++; picked.push(row); }
    picked.sort((a, b) => b.order - a.order);
    picked.length = Math.min(picked.length, most);
    const kept = new Set();
    let before = null; // the line above
    for (const row of picked) {
      kept.add(row.id);
      let tr = this.lines.get(row.id);
      if (!tr) {
        tr = this.line(row);
        this.lines.set(row.id, tr);
      }
      if (tr.row !== row) this.update(tr, row, short);
      const place = before ? before.nextElementSibling : this.body.firstElementChild;
      if (place !== tr) this.body.insertBefore(tr, place);
      before = tr;
    }
    for (const [id, tr] of this.lines) {
      if (!kept.has(id)) {
        tr.remove();
        this.lines.delete(id);
      }
    }
    if (this.body.firstElementChild && !this.body.querySelector('tr[tabindex="0"]')) this.body.firstElementChild.tabIndex = 0;
    this.shown.textContent = all > picked.length ? `The latest ${picked.length} of ${all} flows: a filter picks others.` :
      all || !rows.size ? '' : `None of ${rows.size} flows matches the filter.`;
  }

  line(row) {
    const tr = document.createElement('tr');
    tr.dataset.id = row.id;
    tr.tabIndex = -1;
    tr.className = row.verdict;
    tr.time = cell(tr, 'time');
    endCell(tr, row.from);
    endCell(tr, row.to);
    cell(tr, '', element('span', row.protocol, row.protocol), row.port ? ` ${row.port}` : '');
    cell(tr, 'verdict', row.verdict);
    tr.reason = cell(tr, 'reason');
    tr.node = cell(tr, 'ns');
    tr.count = cell(tr, 'n');
    return tr;
  }

  update(tr, row, short) {
    tr.row = row;
    tr.time.textContent = clock.format(row.time);
    tr.reason.textContent = row.reason;
    tr.node.textContent = short(row.node);
    tr.count.textContent = row.count.toLocaleString();
  }

  select(edges) {
    for (const tr of this.lines.values()) tr.setAttribute('aria-selected', String(edges.has(tr.row.edge)));
  }
}
