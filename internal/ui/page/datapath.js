// Draws how each node carries packets: its devices from the pods down to the NIC, and the programs at their hooks.

import { element } from './element.js';

const $ = (id) => document.getElementById(id);

// look opens the dialog and has the nodes read back.
export async function look(short) {
  if (!$('datapath').open) $('datapath').showModal();
  $('datapath-says').textContent = 'Reading back from the nodes …';
  try {
    const answer = await fetch('datapath');
    if (!answer.ok) throw new Error(await answer.text());
    const plans = await answer.json();
    $('datapath-nodes').replaceChildren(...plans.map((plan) => drawNode(plan, short)));
    $('datapath-says').textContent = `Read back at ${new Date().toLocaleTimeString()}.`;
  } catch (err) {
    $('datapath-says').textContent = err.message;
  }
}

function drawNode(plan, short) {
  const node = element('section', '', 'plan');
  node.append(element('h3', plan.mode ? `${short(plan.node)} · ${plan.mode}` : short(plan.node)));
  if (plan.away) {
    node.append(element('p', plan.away, 'wrong'));
    return node;
  }
  const first = plan.boxes.findIndex((box) => box.passed);
  const boxes = plan.boxes.map(drawBox);
  const way = element('div', '', 'boxes');
  way.append(element('div', '', 'lane'), ...boxes.slice(first));
  node.append(list(plan.facts), ...boxes.slice(0, first), way);
  return node;
}

function drawBox(box) {
  const drawn = element('div', '', `box ${box.kind}${box.passed ? ' passed' : ''}`);
  drawn.append(element('b', box.title));
  for (const line of box.says ?? []) drawn.append(element('p', line));
  for (const hook of new Set(box.programs?.map((program) => program.hook))) {
    const line = element('p', `${hook} `);
    line.append(...box.programs.filter((program) => program.hook === hook).map((program) => element('span', program.name, 'chip')));
    drawn.append(line);
  }
  if (box.wrong) drawn.append(element('p', box.wrong, 'wrong'));
  return drawn;
}

function list(lines) {
  const ul = element('ul', '');
  ul.append(...lines.map((line) => element('li', line)));
  return ul;
}

$('datapath-close').addEventListener('click', () => $('datapath').close());
