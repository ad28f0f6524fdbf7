// The forward and backward pass of one small network and one sample, drawn, clicked and moved.

// --- the network ---------------------------------------------------------------------------------

const ACT = {
  relu: [(z) => Math.max(z, 0), (z) => (z > 0 ? 1 : 0)],
  sigmoid: [(z) => 1 / (1 + Math.exp(-z)), (z, a) => a * (1 - a)],
  tanh: [Math.tanh, (z, a) => 1 - a * a],
  linear: [(z) => z, () => 1],
};
const add = (values) => values.reduce((total, value) => total + value, 0);

// Z = A_prev W + b, A = act(Z); back: dZ = dA act'(Z), dW = A_prev^T dZ, dA_prev = dZ W^T
function pass(net) {
  const L = net.W.length, A = [net.x], Z = [null], dA = [], dZ = [], dW = [], db = [];
  for (let l = 1; l <= L; l += 1) {
    const W = net.W[l - 1], b = net.b[l - 1];
    Z[l] = W[0].map((_, j) => add(A[l - 1].map((a, i) => a * W[i][j])) + (b ? b[j] : 0));
    if (l === L && net.output === 'softmax') {
      const top = Math.max(...Z[l]), e = Z[l].map((z) => Math.exp(z - top)), total = add(e);
      A[l] = e.map((value) => value / total);
    } else A[l] = Z[l].map(ACT[l === L ? net.output : net.hidden][0]);
  }
  const y = net.y, a = A[L];
  const losses = {
    cross_entropy: [-add(y.map((t, k) => (t ? t * Math.log(a[k]) : 0))), (t, v) => -t / v],
    binary_cross_entropy: [-add(y.map((t, k) => (t ? t * Math.log(a[k]) : 0)
      + (1 - t ? (1 - t) * Math.log(1 - a[k]) : 0))), (t, v) => (1 - t) / (1 - v) - t / v],
    sse: [add(y.map((t, k) => (a[k] - t) ** 2)), (t, v) => 2 * (v - t)],
    mse: [add(y.map((t, k) => (a[k] - t) ** 2)), (t, v) => 2 * (v - t)],
    half_squared_error: [add(y.map((t, k) => (a[k] - t) ** 2)) / 2, (t, v) => v - t],
  };
  const [J, slope] = losses[net.loss];
  dA[L] = a.map((value, k) => slope(y[k], value));
  for (let l = L; l >= 1; l -= 1) {
    if (l < L) dA[l] = net.W[l].map((row) => add(row.map((w, j) => w * dZ[l + 1][j])));
    const collapses = l === L && ['cross_entropy', 'binary_cross_entropy'].includes(net.loss);
    const gate = ACT[l === L ? net.output : net.hidden]?.[1];
    dZ[l] = collapses ? a.map((value, k) => value * (net.output === 'softmax' ? add(y) : 1) - y[k])
      : dA[l].map((d, k) => d * gate(Z[l][k], A[l][k]));
    dW[l] = A[l - 1].map((value) => dZ[l].map((d) => value * d));
    db[l] = net.b[l - 1] ? dZ[l] : null;
  }
  dA[0] = net.W[0].map((row) => add(row.map((w, j) => w * dZ[1][j])));
  return { A, Z, dA, dZ, dW, db, J };
}

// Every path from a weight to an output with the factors it meets; the sum is dJ/dW
function pathsOf(net, p, { l, i, j }) {
  const L = net.W.length;
  let found = [[i, j]];
  for (let k = l + 1; k <= L; k += 1) {
    found = found.flatMap((units) => net.W[k - 1][0].map((_, unit) => [...units, unit]));
  }
  return found.map((units) => {
    const factors = [[`dz${l}/dW${l}`, p.A[l - 1][i]]];
    units.slice(1).forEach((unit, n) => {
      const at = l + n;
      if (at > l) factors.push([`dz${at}/da${at - 1}`, net.W[at - 1][units[n]][unit]]);
      if (at < L || net.output !== 'softmax') {
        const gate = ACT[at === L ? net.output : net.hidden][1];
        factors.push([`da${at}/dz${at}`, gate(p.Z[at][unit], p.A[at][unit])]);
      }
    });
    const end = units.at(-1);
    factors.push(net.output === 'softmax' ? [`dE/dz${L}`, p.dZ[L][end]] : [`dE/da${L}`,
      p.dA[L][end]]);
    return { units, factors, product: factors.reduce((total, [, value]) => total * value, 1) };
  });
}

// --- the state -----------------------------------------------------------------------------------

const usual = () => ({ tab: '0', weight: DATA.weight, node: '', moved: '', step: '0' });
let state = usual(), net, now;
const weightName = (l, i, j) => `W${l}[${i},${j}]`;
const parseWeight = (text) => {
  const found = /^W(\d+)\[(\d+),\s?(\d+)\]$/.exec(text || '');
  return found && { l: +found[1], i: +found[2], j: +found[3] };
};
const isWeight = (w) => w && net.W[w.l - 1]?.[w.i]?.[w.j] !== undefined;
const parseNode = (text) => {
  const [l, k] = (text || '').split(',').map(Number);
  return text && l >= 0 && k >= 0 && k < (net.sizes[l] ?? 0) ? { l, k } : null;
};
const moves = () => Object.fromEntries(state.moved.split(';').filter(Boolean)
  .map((part) => [part.slice(0, part.lastIndexOf(':')), Number(part.slice(
    part.lastIndexOf(':') + 1))]).filter(([, value]) => Number.isFinite(value)));

function change(part) {
  state = { ...state, ...part };
  const first = usual();
  fragment.write(Object.fromEntries(Object.entries(state).filter(([k, v]) => v !== first[k])));
  draw();
}
function readState() { state = { ...usual(), ...fragment.read() }; }
function move(name, value) {
  const all = { ...moves(), [name]: value };
  change({ moved: Object.entries(all).map(([k, v]) => `${k}:${v}`).join(';') });
}

// The network of the tab with what was moved
function current() {
  const tab = DATA.networks[Number(state.tab)] || DATA.networks[0];
  const made = { ...tab, x: [...tab.x], W: tab.W.map((W) => W.map((row) => [...row])) };
  net = made;
  for (const [name, value] of Object.entries(moves())) {
    const input = /^x(\d+)$/.exec(name), weight = parseWeight(name);
    if (input && Number(input[1]) < made.x.length) made.x[Number(input[1])] = value;
    else if (isWeight(weight)) made.W[weight.l - 1][weight.i][weight.j] = value;
  }
  return made;
}
// What the page computes, for whoever wants to check it
function numbers() { return { ...now, x: net.x, W: net.W }; }

// --- the drawing ---------------------------------------------------------------------------------

const SVG = 'http://www.w3.org/2000/svg';
const svg = (name, attributes = {}, ...children) => {
  const made = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children);
  return made;
};
const graph = document.getElementById('graph');
const SIZE = { w: 760, h: 430, r: 33 };
const place = (l, k) => {
  const L = net.sizes.length - 1, d = net.sizes[l];
  return [90 + (l * (SIZE.w - 180)) / L, SIZE.h / 2 + 14 + (k - (d - 1) / 2)
    * Math.min(98, (SIZE.h - 60) / Math.max(...net.sizes))];
};
const button = (made, label, act, pressed) => {
  const attributes = { tabindex: 0, role: 'button', 'aria-label': label, 'aria-pressed': pressed };
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.addEventListener('click', act);
  made.addEventListener('keydown', (event) => {
    if (['Enter', ' '].includes(event.key)) { event.preventDefault(); act(); }
  });
  return made;
};

function drawGraph(lit, chosen, marked) {
  const focused = document.activeElement?.dataset?.key;
  graph.replaceChildren();
  graph.setAttribute('viewBox', `0 0 ${SIZE.w} ${SIZE.h}`);
  const widest = Math.max(...net.W.flat(2).map(Math.abs)) || 1;
  const names = net.sizes.map((_, l) => (l === 0 ? 'inputs' : l === net.W.length
    ? `layer ${l}: ${net.output}` : `layer ${l}: ${net.hidden}`));
  names.forEach((name, l) => graph.append(svg('text', { x: place(l, 0)[0], y: 16, class: 'head' },
    name)));
  const labels = [];
  for (let l = 1; l <= net.W.length; l += 1) {
    net.W[l - 1].forEach((row, i) => row.forEach((w, j) => {
      const [x1, y1] = place(l - 1, i), [x2, y2] = place(l, j), name = weightName(l, i, j);
      const d = now.dW[l][i][j], ends = { x1, y1, x2, y2 };
      const group = svg('g', { class: 'edge', 'data-weight': name, 'data-key': name });
      if (lit.has(`${l - 1},${i}>${l},${j}`)) group.append(svg('line', { ...ends, class: 'glow' }));
      group.append(svg('line', { ...ends, class: d > 0 ? 'up' : d < 0 ? 'down' : 'flat',
        'stroke-width': 0.8 + (5 * Math.abs(w)) / widest,
        ...(w < 0 ? { 'stroke-dasharray': '7 4' } : {}) }));
      group.append(svg('line', { ...ends, class: 'hit' }));
      button(group, `weight ${name}, ${digits(w)}; derivative ${digits(d)}`,
        () => change({ weight: name, node: '' }), chosen === name);
      graph.append(group);
    }));
  }
  for (let l = 0; l < net.sizes.length; l += 1) {
    for (let k = 0; k < net.sizes[l]; k += 1) {
      const [x, y] = place(l, k), a = now.A[l][k], d = l ? now.dZ[l][k] : now.dA[0][k];
      const key = `${l},${k}`, classes = ['node'];
      if (lit.has(key)) classes.push('lit');
      if (a === 0) classes.push('closed');
      if (marked === l) classes.push('now');
      const group = svg('g', { class: classes.join(' '), 'data-node': key, 'data-key': key },
        svg('circle', { cx: x, cy: y, r: SIZE.r }),
        svg('text', { x, y: y - 5, class: 'a' }, digits(a)),
        svg('text', { x, y: y + 12, class: 'd' }, digits(d)));
      button(group, `${l ? `unit ${k} of layer ${l}` : `input ${k}`}: ${digits(a)}, derivative `
        + digits(d), () => change({ node: key }), state.node === key);
      graph.append(group);
    }
  }
  graph.append(...labels);
  if (focused) graph.querySelector(`[data-key="${CSS.escape(focused)}"]`)?.focus();
}

// --- the details ---------------------------------------------------------------------------------

const detail = document.getElementById('detail');
const rows = (head, body) => element('table', {},
  element('thead', {}, element('tr', {}, ...head.map((name) => element('th', { scope: 'col' },
    name)))),
  element('tbody', {}, ...body.map((cells) => element('tr', {}, ...cells.map((cell) =>
    (typeof cell === 'number' ? element('td', { class: 'number' }, digits(cell, 5))
      : element('td', {}, cell)))))));
const scroll = (made) => element('div', { class: 'scroll', tabindex: 0, role: 'region',
  'aria-label': 'Table' }, made);
const twelve = (value) => value.toPrecision(12).replace('-', '\u2212');

function tellWeight(weight, paths) {
  const { l, i, j } = weight, name = weightName(l, i, j);
  const sum = add(paths.map((path) => path.product));
  const head = ['path', ...paths[0].factors.map(([factor]) => factor), 'product'];
  const body = paths.map((path) => [path.units.join(' \u2192 '),
    ...path.factors.map(([, value]) => value), path.product]);
  const tab = DATA.networks[Number(state.tab)] || DATA.networks[0];
  const sums = [['sum over the paths', sum, 'sum'], ['backward pass of this page',
    now.dW[l][i][j], 'own']];
  if (state.moved === '') {
    sums.push(['jaxmlp.trace', tab.trace[l - 1][i][j], 'trace'],
      ['jax.grad', tab.auto[l - 1][i][j], 'auto']);
  }
  const list = element('dl');
  for (const [what, value, id] of sums) {
    list.append(element('dt', {}, what), element('dd', { id, class: 'formula',
      'data-value': value }, twelve(value)));
  }
  detail.replaceChildren(element('h2', {}, `dE/d${name}: ${paths.length} path`
    + `${paths.length === 1 ? '' : 's'} from ${name} = ${digits(net.W[l - 1][i][j], 4)}`),
  scroll(rows(head, body)), list);
  if (state.moved !== '') {
    detail.append(element('p', { class: 'note' }, 'Something was moved: jaxmlp.trace and jax.grad '
      + 'were computed at the start. Press \u201cas it was\u201d to see them.'));
  }
}

function tellNode({ l, k }) {
  const L = net.W.length, body = [];
  if (l === 0) {
    body.push([`x${k}`, 'the input', now.A[0][k]], [`dX[${k}]`, 'dZ1 W1^T', now.dA[0][k]]);
  } else {
    const act = l === L ? net.output : net.hidden, bias = net.b[l - 1] ? ` + b${l}` : '';
    const gate = l === L && ['cross_entropy', 'binary_cross_entropy'].includes(net.loss)
      ? `A${l} - Y` : `dA${l} * ${act}'(Z${l})`;
    body.push([`Z${l}[${k}]`, `${l === 1 ? 'X' : `A${l - 1}`} W${l}${bias}`, now.Z[l][k]],
      [`A${l}[${k}]`, `${act}(Z${l})`, now.A[l][k]],
      [`dA${l}[${k}]`, l === L ? slopeOf() : `dZ${l + 1} W${l + 1}^T`, now.dA[l][k]],
      [`dZ${l}[${k}]`, gate, now.dZ[l][k]]);
  }
  detail.replaceChildren(element('h2', {}, l ? `unit ${k} of layer ${l}` : `input ${k}`),
    rows(['symbol', 'formula', 'number'], body));
}
const slopeOf = () => {
  const L = net.W.length;
  return { cross_entropy: `-Y / A${L}`, sse: `2 (A${L} - Y)`, mse: `2 (A${L} - Y)`,
    half_squared_error: `A${L} - Y`,
    binary_cross_entropy: `(1 - Y) / (1 - A${L}) - Y / A${L}` }[net.loss];
};

// --- line by line --------------------------------------------------------------------------------

function lines() {
  const L = net.W.length, found = [], act = (l) => (l === L ? net.output : net.hidden);
  for (let l = 1; l <= L; l += 1) {
    found.push([`Z${l}`, `${l === 1 ? 'X' : `A${l - 1}`} W${l}${net.b[l - 1] ? ` + b${l}` : ''}`,
      now.Z[l], l], [`A${l}`, `${act(l)}(Z${l})`, now.A[l], l]);
  }
  found.push(['E', net.loss, [now.J], L]);
  const collapses = ['cross_entropy', 'binary_cross_entropy'].includes(net.loss);
  for (let l = L; l >= 1; l -= 1) {
    found.push([`dA${l}`, l === L ? slopeOf() : `dZ${l + 1} W${l + 1}^T`, now.dA[l], l],
      [`dZ${l}`, l === L && collapses ? `A${l} - Y` : `dA${l} * ${act(l)}'(Z${l})`, now.dZ[l], l],
      [`dW${l}`, `${l === 1 ? 'X' : `A${l - 1}`}^T dZ${l}`, now.dW[l], l]);
    if (now.db[l]) found.push([`db${l}`, `dZ${l}`, now.db[l], l]);
  }
  found.push(['dX', 'dZ1 W1^T', now.dA[0], 0]);
  return found;
}
function tellLine(all, at) {
  const [symbol, formula, value] = all[at];
  const matrix = Array.isArray(value[0]) ? value : [value];
  document.getElementById('at').textContent = `line ${at + 1} of ${all.length}`;
  document.getElementById('back').disabled = at === 0;
  document.getElementById('next').disabled = at === all.length - 1;
  document.getElementById('line').replaceChildren(
    element('p', { class: 'formula' }, `${symbol} = ${formula}`),
    element('table', {}, element('tbody', {}, ...matrix.map((row) => element('tr', {},
      ...row.map((cell) => element('td', { class: 'number' }, digits(cell, 5))))))));
}

// --- the sliders and the tabs --------------------------------------------------------------------

const sliders = document.getElementById('sliders');
function drawSliders(chosen) {
  const wanted = [...net.x.map((value, k) => [`x${k}`, value])];
  if (isWeight(chosen)) {
    const name = weightName(chosen.l, chosen.i, chosen.j);
    wanted.push([name, net.W[chosen.l - 1][chosen.i][chosen.j]]);
  }
  const key = `${state.tab} ${wanted.map(([name]) => name).join(' ')}`;
  if (sliders.dataset.key !== key) {
    sliders.dataset.key = key;
    sliders.replaceChildren();
    for (const [name] of wanted) {
      const input = element('input', { type: 'range', min: -4, max: 4, step: 'any',
        'data-name': name });
      input.addEventListener('input', () => move(name, Number(input.value)));
      sliders.append(element('label', {}, `${name} `, input, element('output', {
        'data-of': name })));
    }
    const reset = element('button', { type: 'button', id: 'reset' }, 'as it was');
    reset.addEventListener('click', () => change({ moved: '' }));
    sliders.append(reset);
  }
  for (const [name, value] of wanted) {
    const input = [...sliders.querySelectorAll('input')].find((one) => one.dataset.name === name);
    input.value = value;
    input.setAttribute('aria-valuetext', digits(value, 4));
    [...sliders.querySelectorAll('output')].find((one) => one.dataset.of === name).textContent =
      digits(value, 4);
  }
}
const tabs = document.getElementById('tabs');
DATA.networks.forEach((network, n) => {
  const tab = element('button', { type: 'button', role: 'tab', id: `tab${n}` }, network.name);
  tab.addEventListener('click', () => change({ ...usual(), tab: String(n) }));
  tabs.append(tab);
});

// --- all of it -----------------------------------------------------------------------------------

function draw() {
  current();
  now = pass(net);
  [...tabs.children].forEach((tab, n) => tab.setAttribute('aria-selected',
    String(String(n) === state.tab)));
  document.getElementById('net').textContent = `${net.title}; E = ${digits(now.J, 6)}`;
  const node = parseNode(state.node), weight = parseWeight(state.weight), all = lines();
  const chosen = isWeight(weight) ? weight : { l: 1, i: 0, j: 0 };
  const lit = new Set(), paths = pathsOf(net, now, chosen);
  if (!node) {
    for (const { units } of paths) {
      units.forEach((unit, n) => {
        lit.add(`${chosen.l - 1 + n},${unit}`);
        if (n) lit.add(`${chosen.l - 2 + n},${units[n - 1]}>${chosen.l - 1 + n},${unit}`);
      });
    }
  } else lit.add(state.node);
  const at = Math.min(all.length - 1, Math.max(0, Math.trunc(Number(state.step)) || 0));
  drawGraph(lit, node ? '' : weightName(chosen.l, chosen.i, chosen.j), all[at][3]);
  if (node) tellNode(node);
  else tellWeight(chosen, paths);
  drawSliders(node ? null : chosen);
  tellLine(all, at);
  document.documentElement.dataset.drawn = String(performance.now());
}
document.getElementById('next').addEventListener('click', () => change({
  step: String(Number(state.step) + 1) }));
document.getElementById('back').addEventListener('click', () => change({
  step: String(Number(state.step) - 1) }));
readState();
addEventListener('hashchange', () => { readState(); draw(); });
draw();
