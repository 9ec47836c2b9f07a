// The map: a card for each workload, with a dot for each pod, and an arrow for each protocol that one speaks to another.

const dotsMost = 24;
const perLine = 8;
const quiet = 10_000; // milliseconds after which an arrow fades
const crowd = 12; // of more arrows than this, those that have faded lose their words

const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();

// dots draws a card's pods as a picture, for which the canvas has no shape.
function dots(pods, colours) {
  const shown = [...pods].sort((a, b) => Number(b.red ?? false) - Number(a.red ?? false)).slice(0, dotsMost);
  const columns = Math.min(shown.length, perLine);
  const width = columns * 12;
  const height = Math.ceil(shown.length / perLine) * 12;
  const circles = shown.map((pod, i) => `<circle cx="${(i % perLine) * 12 + 6}" cy="${Math.floor(i / perLine) * 12 + 6}" r="4" fill="${pod.red ? colours.red : colours.accent}"/>`);
  const svg = `<svg xmlns="http://www.w3.org/2000/svg" width="${width * 3}" height="${height * 3}" viewBox="0 0 ${width} ${height}">${circles.join('')}</svg>`;
  return { image: `data:image/svg+xml,${encodeURIComponent(svg)}`, width, height };
}

const perSecond = (n) => (n >= 10 ? String(Math.round(n)) : String(n));

function labelOf(group) {
  const lines = [group.name];
  if (group.kind === 'pods') lines.push(`${group.namespace} · ${group.pods.length} ${group.pods.length === 1 ? 'pod' : 'pods'}`);
  if (group.kind === 'service') lines.push(`${group.namespace} · Service`);
  if (group.kind === 'outside') lines.push('outside the cluster');
  return lines;
}

// bundle puts edges of one protocol between the same two together.
export function bundle(edges) {
  const bundles = new Map();
  for (const edge of edges.values()) {
    const id = `${edge.from}-${edge.to}-${edge.protocol}`;
    let b = bundles.get(id);
    if (!b) bundles.set(id, (b = { id, from: edge.from, to: edge.to, protocol: edge.protocol, edges: [], rate: 0, dropRate: 0, red: false, seen: 0 }));
    b.edges.push(edge);
    b.rate += edge.rate;
    b.dropRate += edge.dropRate;
    b.red ||= edge.red ?? false;
    b.seen = Math.max(b.seen, edge.seen);
  }
  for (const b of bundles.values()) {
    b.edges.sort((x, y) => Number(y.red ?? false) - Number(x.red ?? false) || y.rate - x.rate || (x.port ?? 0) - (y.port ?? 0));
    const ports = b.edges.map((edge) => edge.port).filter(Boolean);
    const named = ports.slice(0, 2).join(', ') + (ports.length > 2 ? ` +${ports.length - 2}` : '');
    b.name = named ? `${b.protocol} ${named}` : b.protocol;
    b.says = b.red ? `dropped${b.dropRate ? ` ${perSecond(Math.round(b.dropRate * 10) / 10)}/s` : ''}` : b.rate ? `${perSecond(Math.round(b.rate * 10) / 10)}/s` : '';
  }
  return bundles;
}

export class ServiceMap {
  // pick is called with { group } or { bundle }, an id, or with null.
  constructor(container, pick) {
    this.pick = pick;
    this.measure = document.createElement('canvas').getContext('2d');
    this.cy = globalThis.cytoscape({ container, minZoom: 0.1, maxZoom: 2.5, boxSelectionEnabled: false, textureOnViewport: true, autounselectify: true });
    this.cy.on('tap', (event) => {
      if (event.target === this.cy) pick(null);
      else if (event.target.isNode()) pick({ group: event.target.id() });
      else pick({ bundle: event.target.id() });
    });
    this.cy.on('scrollzoom dragpan pinchzoom', () => { this.moved = true; });
    this.cy.on('mouseover', 'node, edge', () => { container.style.cursor = 'pointer'; });
    this.cy.on('mouseout', 'node, edge', () => { container.style.cursor = ''; });
    container.addEventListener('keydown', (event) => this.key(event));
    matchMedia('(prefers-color-scheme: dark)').addEventListener('change', () => this.dress());
    new ResizeObserver(() => { this.cy.resize(); this.settle(); }).observe(container);
    this.dress();
  }

  // dress takes the colours of the page's style.
  dress() {
    this.colours = Object.fromEntries(['node', 'node-line', 'text', 'soft', 'accent', 'tcp', 'udp', 'icmp', 'other', 'red', 'red-ground', 'ground'].map((name) => [name, colour(name)]));
    const c = this.colours;
    this.font = getComputedStyle(document.body).fontFamily;
    this.cy.style([
      { selector: 'node', style: {
        shape: 'round-rectangle', width: 'data(width)', height: 'data(height)', 'background-color': c.node, 'border-width': 1.2, 'border-color': c['node-line'],
        label: 'data(label)', 'text-wrap': 'wrap', 'text-valign': 'center', 'text-margin-y': 'data(lift)', color: c.text, 'font-size': 13, 'font-family': this.font, 'line-height': 1.25,
      } },
      { selector: 'node[image]', style: {
        'background-image': 'data(image)', 'background-width': 'data(imageWidth)', 'background-height': 'data(imageHeight)', 'background-position-y': 'data(imageAt)',
        'background-fit': 'none', 'background-clip': 'none', 'background-image-opacity': 1,
      } },
      { selector: 'node[kind != "pods"]', style: { 'border-style': 'dashed', 'background-color': c.ground, color: c.soft } },
      { selector: 'node[?red]', style: { 'border-color': c.red, 'border-width': 2 } },
      { selector: 'edge', style: {
        width: 'data(width)', 'line-color': c.other, 'target-arrow-color': c.other, 'target-arrow-shape': 'triangle', 'arrow-scale': 1.1, 'curve-style': 'bezier',
        'control-point-step-size': 44, label: 'data(label)', 'font-size': 11, 'font-family': this.font, color: c.text, 'text-wrap': 'wrap',
        'text-background-color': c.ground, 'text-background-opacity': 0.92, 'text-background-padding': 2, 'text-background-shape': 'round-rectangle',
        'loop-direction': '0deg', 'loop-sweep': '-60deg', 'min-zoomed-font-size': 6,
      } },
      ...['tcp', 'udp', 'icmp'].map((p) => ({ selector: `edge[protocol = "${p}"]`, style: { 'line-color': c[p], 'target-arrow-color': c[p] } })),
      { selector: 'edge:loop', style: { 'text-margin-y': -15 } },
      { selector: 'edge[?idle]', style: { 'line-opacity': 0.35, 'line-style': 'dashed', color: c.soft } },
      { selector: 'edge[?red]', style: { 'line-color': c.red, 'target-arrow-color': c.red, color: c.red, 'line-style': 'solid', 'font-weight': 600 } },
      { selector: '.out', style: { opacity: 0.12, 'text-opacity': 0.25 } },
      { selector: 'node.at', style: { 'border-color': c.accent, 'border-width': 3 } },
      { selector: 'edge[?mute]', style: { label: '' } },
      { selector: 'edge.at', style: { label: 'data(label)', 'underlay-color': c.accent, 'underlay-opacity': 0.25, 'underlay-padding': 5 } },
    ]);
    for (const node of this.cy.nodes()) node.data(this.card(node.data('group')));
  }

  // card is how a group is drawn.
  card(group) {
    const lines = labelOf(group);
    this.measure.font = `13px ${this.font}`;
    const text = Math.max(...lines.map((line) => this.measure.measureText(line).width));
    const red = group.pods.some((pod) => pod.red);
    const data = { group, kind: group.kind, label: lines.join('\n'), red, lift: 0, height: lines.length * 17 + 16, width: Math.max(text + 26, 84) };
    if (group.pods.length) {
      const { image, width, height } = dots(group.pods, this.colours);
      Object.assign(data, { image, imageWidth: width, imageHeight: height, imageAt: lines.length * 17 + 12, width: Math.max(data.width, width + 20), lift: -(height + 4) / 2 });
      data.height += height + 4;
    }
    return data;
  }

  draw(groups, bundles, now, shown) {
    let placed = false;
    this.cy.batch(() => {
      for (const group of groups.values()) {
        const node = this.cy.getElementById(group.id);
        if (node.empty()) {
          this.cy.add({ group: 'nodes', data: { id: group.id, ...this.card(group) } });
          placed = true;
        } else if (node.data('group') !== group) {
          const { width, height } = node.data();
          const data = this.card(group);
          node.data(data);
          placed ||= data.width > width + 20 || data.height > height + 10;
        }
      }
      const crowded = bundles.size > crowd;
      for (const b of bundles.values()) {
        const idle = !b.red && now - b.seen > quiet;
        const data = {
          protocol: b.protocol, red: b.red, idle, mute: idle && crowded && !shown?.has(b.id), says: b.says, label: [b.name, b.says].filter(Boolean).join('\n'),
          width: 1.5 + Math.min(Math.log2(1 + b.rate + b.dropRate) / 1.8, 4.5),
        };
        const edge = this.cy.getElementById(b.id);
        if (edge.empty()) {
          this.cy.add({ group: 'edges', data: { id: b.id, source: b.from, target: b.to, ...data } });
          placed = true;
        } else {
          for (const [key, value] of Object.entries(data)) if (edge.data(key) !== value) edge.data(key, value);
        }
      }
      for (const element of this.cy.elements()) {
        const id = element.id();
        if (element.isNode() ? !groups.has(id) : !bundles.has(id)) {
          element.remove();
          placed = true;
        } else {
          element.toggleClass('out', shown !== null && !shown.has(id));
        }
      }
    });
    if (placed) this.arrange();
  }

  // arrange puts everything in its place, soon, as more may come.
  arrange() {
    this.timer ??= setTimeout(() => {
      this.timer = undefined;
      const many = this.cy.nodes().length > 120;
      const calm = many || matchMedia('(prefers-reduced-motion: reduce)').matches || !this.arranged;
      this.arranged = true;
      this.cy.layout({
        name: 'dagre', rankDir: 'LR', nodeSep: 26, rankSep: 150, edgeSep: 14, fit: false, animate: !calm, animationDuration: 250,
        ranker: many ? 'longest-path' : 'network-simplex', nodeDimensionsIncludeLabels: false,
      }).one('layoutstop', () => this.settle()).run();
    }, this.arranged ? 400 : 50);
  }

  // settle shows all, unless somebody has chosen what to look at.
  settle() {
    if (!this.moved) this.fit();
  }

  fit() {
    this.moved = false;
    if (this.cy.elements().empty()) return;
    this.cy.fit(undefined, 40);
    if (this.cy.zoom() > 1.25) {
      this.cy.zoom(1.25);
      this.cy.center();
    }
  }

  select(id) {
    this.cy.elements('.at').removeClass('at');
    if (id) this.cy.getElementById(id).addClass('at');
  }

  key(event) {
    const step = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
    const zoom = { '+': 1.25, '=': 1.25, '-': 0.8 }[event.key];
    if (step) this.go(...step);
    else if (zoom) {
      this.moved = true;
      this.cy.zoom({ level: this.cy.zoom() * zoom, renderedPosition: { x: this.cy.width() / 2, y: this.cy.height() / 2 } });
    } else if (event.key === '0') this.fit();
    else if (event.key === 'Enter' && this.at) this.pick(this.at.isNode() ? { group: this.at.id() } : { bundle: this.at.id() });
    else return;
    event.preventDefault();
  }

  // go marks what is next in a direction: of cards and the middles of arrows, the nearest within 45 degrees or so.
  go(x, y) {
    const middle = (element) => (element.isNode() ? element.position() : element.midpoint());
    if (!this.at || this.at.removed()) {
      this.at = this.cy.nodes().sort((a, b) => a.position('x') - b.position('x') || a.position('y') - b.position('y')).first();
    } else {
      const from = middle(this.at);
      let best = Infinity;
      let next = this.at;
      for (const element of this.cy.elements()) {
        const to = middle(element);
        const along = (to.x - from.x) * x + (to.y - from.y) * y;
        const across = Math.abs((to.x - from.x) * y) + Math.abs((to.y - from.y) * x);
        if (element !== this.at && along > 1 && along >= across * 0.6 && along + 2 * across < best) {
          best = along + 2 * across;
          next = element;
        }
      }
      this.at = next;
    }
    if (this.at.empty()) return;
    this.select(this.at.id());
    const { x1, x2, y1, y2 } = this.cy.extent();
    const to = middle(this.at);
    if (to.x < x1 || to.x > x2 || to.y < y1 || to.y > y2) this.cy.center(this.at);
  }
}
