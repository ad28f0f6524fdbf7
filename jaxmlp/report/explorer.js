// The explorer: the state is one object; whatever changes it draws all anew and writes the URL.
const COLOURS = ['#0072B2', '#D55E00', '#009E73', '#E69F00', '#CC79A7', '#56B4E9', '#8C6D31',
  '#7F7F7F'];
const SHOWN = 500, HOVERED = 1200, ALL = 'all';
const columns = DATA.networks, total = columns.depth.length;
const named = (value) => (value === null || value === undefined ? 'none' : String(value));
const values = Object.fromEntries(
  DATA.menus.map((menu) => [menu, [...new Set(columns[menu].map(named))]]));
const depths = [...new Set(columns.depth)].sort((a, b) => a - b);
const menus = DATA.menus.filter((menu) => values[menu].length > 1);

// One menu shows all of its values side by side, the others their first, steps the last
const beside = menus.includes(DATA.beside) ? DATA.beside : menus[0];
const first = Object.fromEntries(menus.map((menu) => [menu, menu === beside ? ALL
  : menu === 'step' ? values[menu].at(-1) : values[menu][0]]));
const usual = { ...first, depth: String(depths[Math.floor((depths.length - 1) / 2)]),
  sort: '', down: '' };
let state = { ...usual };

function readState() {
  const found = fragment.read();
  state = { ...usual };
  for (const menu of menus) {
    if ([ALL, ...values[menu]].includes(found[menu])) state[menu] = found[menu];
  }
  if (depths.includes(Number(found.depth))) state.depth = found.depth;
  if (Object.keys(columns).includes(found.sort)) state.sort = found.sort;
  state.down = found.down === '1' ? '1' : '';
}

// --- the controls ------------------------------------------------------------------------------

const controls = document.getElementById('controls');
for (const menu of menus) {
  const select = element('select', { id: `menu-${menu}`, name: menu });
  for (const value of [ALL, ...values[menu]]) {
    const option = element('option', {}, value);
    option.value = value;
    select.append(option);
  }
  controls.append(element('label', {}, `${menu} `, select));
  select.addEventListener('change', () => change({ [menu]: select.value }));
}
const slider = element('input', { type: 'range', id: 'depth', min: 0, max: depths.length - 1,
  step: 1 });
const depthSaid = element('output', { for: 'depth' });
controls.append(element('label', {}, 'depth ', slider, depthSaid));
slider.addEventListener('input', () => change({ depth: String(depths[Number(slider.value)]) }));
controls.addEventListener('submit', (event) => event.preventDefault());

function change(part) {
  state = { ...state, ...part };
  fragment.write(state);
  draw();
}

// --- what is chosen ----------------------------------------------------------------------------

const matches = (i) => menus.every((menu) => state[menu] === ALL ||
  named(columns[menu][i]) === state[menu]);
const seriesOf = (named_) => menus.filter((menu) => state[menu] === ALL).map(named_).join(', ')
  || 'networks';
const seriesAt = (i) => seriesOf((menu) => named(columns[menu][i]));
const number = (value) => (typeof value === 'number' ? value : null);

function chosenRows() {
  const chosen = [];
  for (let i = 0; i < total; i += 1) if (matches(i)) chosen.push(i);
  return chosen;
}

function flowRows(chosen) {
  const lines = [], zeros = new Set();
  for (const i of chosen.filter((k) => columns.depth[k] === Number(state.depth))) {
    const layers = DATA.layers[columns.depth[i] + 1], flow = DATA.flows[i];
    flow.forEach((y, k) => {
      if (y === '-inf') zeros.add(i);
      lines.push({ layer: layers[k], y: number(y), said: digits(y, 4), line: i,
        series: seriesAt(i), seed: columns.seed ? named(columns.seed[i]) : '' });
    });
  }
  return { lines, zeros: zeros.size };
}

function bandRows(lines) {
  const rows = [];
  const inMenu = (band) => menus.every((menu) => state[menu] === ALL || band[menu] === undefined ||
    named(band[menu]) === state[menu]);
  for (const band of DATA.bands) {
    if (band.depth !== Number(state.depth) || !inMenu(band)) continue;
    const layers = DATA.layers[band.depth + 1], L = band.depth + 1;
    const series = seriesOf((menu) => named(band[menu]));
    // relative to the output: shift it to the median of what was measured there
    const tops = lines.filter((row) => row.series === series && row.layer === L && row.y !== null)
      .map((row) => row.y).sort((a, b) => a - b);
    if (!tops.length) continue;
    const top = tops[Math.floor((tops.length - 1) / 2)];
    layers.forEach((layer, k) => rows.push({ layer, series, mean: shifted(band.mean[k], top),
      low: shifted(band.low[k], top), high: shifted(band.high[k], top) }));
  }
  return rows;
}
const shifted = (value, top) => (typeof value === 'number' ? value + top : null);

function depthRows(chosen, column, sign) {
  return chosen.map((i) => ({ depth: columns.depth[i], series: seriesAt(i),
    y: number(columns[column][i]) === null ? null : sign * columns[column][i],
    seed: columns.seed ? named(columns.seed[i]) : '' })).filter((row) => row.y !== null);
}

// --- the charts --------------------------------------------------------------------------------

const axis = (title, more = {}) => ({ title, ...more });
const colour = { field: 'series', type: 'nominal', title: null, scale: { range: COLOURS },
  legend: { orient: 'top', columns: 4, labelLimit: 260, symbolType: 'stroke', symbolOpacity: 1 } };
const config = () => {
  const dark = isDark(), ink = dark ? '#ededed' : '#1b1b1b', line = dark ? '#4a4d52' : '#d5d5d0';
  return { background: 'transparent', font: 'system-ui, Liberation Sans, sans-serif',
    view: { stroke: null },
    axis: { labelColor: ink, titleColor: ink, gridColor: line, domainColor: ink, tickColor: ink,
      labelFontSize: 13, titleFontSize: 14, titleFontWeight: 'normal' },
    legend: { labelColor: ink, titleColor: ink, labelFontSize: 13, symbolStrokeWidth: 4 } };
};
const chart = (data, layer) => ({ $schema: 'https://vega.github.io/schema/vega-lite/v6.json',
  width: 'container', height: 300, autosize: { type: 'fit', contains: 'padding' },
  config: config(), datasets: data, layer });

const flowSpec = (data) => chart(data, [
  { data: { name: 'band' }, mark: { type: 'area', opacity: 0.22 }, encoding: {
    x: { field: 'layer', type: 'quantitative' }, y: { field: 'low', type: 'quantitative' },
    y2: { field: 'high' }, color: colour } },
  { data: { name: 'band' }, mark: { type: 'line', strokeDash: [6, 4], strokeWidth: 1.5 },
    encoding: { x: { field: 'layer', type: 'quantitative' },
      y: { field: 'mean', type: 'quantitative' }, color: colour } },
  { data: { name: 'lines' }, mark: { type: 'line', strokeWidth: 2 }, encoding: {
    x: { field: 'layer', type: 'quantitative', axis: axis('layer', { tickMinStep: 1 }), scale: { nice: false } },
    y: { field: 'y', type: 'quantitative', axis: axis('log10 of the gradient norm'),
      scale: { zero: false } },
    color: colour, detail: { field: 'line' } } },
  { data: { name: 'points' }, mark: { type: 'point', size: 60, opacity: 0, filled: true },
    encoding: { x: { field: 'layer', type: 'quantitative' },
      y: { field: 'y', type: 'quantitative' }, tooltip: [
        { field: 'series', title: 'network' }, { field: 'seed' }, { field: 'layer' },
        { field: 'said', title: 'log10' }] } },
]);
const depthSpec = (title) => (data) => chart(data, [
  { data: { name: 'rows' }, mark: { type: 'line', strokeWidth: 2 }, encoding: {
    x: { field: 'depth', type: 'quantitative', axis: axis('hidden layers', { values: depths, format: 'd' }),
      scale: { type: depths.at(-1) > 20 * depths[0] ? 'log' : 'linear', nice: false } },
    y: { field: 'y', aggregate: 'median', type: 'quantitative', axis: axis(title) },
    color: colour } },
  { data: { name: 'rows' }, mark: { type: 'point', filled: true, size: 55 }, encoding: {
    x: { field: 'depth', type: 'quantitative' }, y: { field: 'y', type: 'quantitative' },
    color: colour, tooltip: [{ field: 'series', title: 'network' }, { field: 'seed' },
      { field: 'depth' }, { field: 'y', title, format: '.3g' }] } },
]);
const scored = columns.accuracy ? ['accuracy', 'loss'].filter((name) =>
  (columns[name] || []).some((value) => typeof value === 'number')) : [];
const charts = { flow: flowSpec, lost: depthSpec('decades lost') };
for (const name of scored) {
  document.getElementById(name).closest('figure').hidden = false;
  charts[name] = depthSpec(name);
}
const views = {};
const QUIET = 1; // Vega says errors only: a chart without a band is none
async function show(name, data) {
  if (!views[name]) {
    const options = { actions: false, renderer: 'svg', logLevel: QUIET };
    views[name] = (await vegaEmbed(`#${name}`, charts[name](data), options)).view;
    return;
  }
  for (const [set, rows] of Object.entries(data)) views[name].data(set, rows);
  await views[name].resize().runAsync();
}

// --- the table ---------------------------------------------------------------------------------

const told = Object.keys(columns).filter((name) =>
  new Set(columns[name].map(named)).size > 1 || ['depth', 'verdict'].includes(name));
const size = (value) => (value === 'inf' ? Infinity : value === '-inf' ? -Infinity : value);
function order(a, b) {
  const [x, y] = [size(columns[state.sort][a]), size(columns[state.sort][b])];
  if (x === y) return a - b;
  if (x === null || y === null) return x === null ? 1 : -1; // what is not known comes last
  const less = typeof x === 'number' && typeof y === 'number' ? x < y
    : named(x).localeCompare(named(y)) < 0;
  return (less ? -1 : 1) * (state.down ? -1 : 1);
}
const head = document.querySelector('#networks thead');
const headRow = element('tr');
for (const name of told) {
  const button = element('button', { type: 'button' }, name.replaceAll('_', ' '));
  button.addEventListener('click', () => change({ sort: name,
    down: state.sort === name && !state.down ? '1' : '' }));
  headRow.append(element('th', { scope: 'col', 'data-name': name }, button));
}
head.append(headRow);
function fillTable(chosen) {
  const sorted = state.sort ? [...chosen].sort(order) : chosen;
  for (const th of headRow.children) {
    const own = th.dataset.name === state.sort;
    th.setAttribute('aria-sort', own ? (state.down ? 'descending' : 'ascending') : 'none');
  }
  document.querySelector('#networks tbody').replaceChildren(...sorted.slice(0, SHOWN).map((i) => {
    const row = element('tr', columns.depth[i] === Number(state.depth) ? { class: 'current' } : {});
    for (const name of told) {
      const value = columns[name][i], isNumber = typeof value === 'number';
      row.append(element('td', isNumber ? { class: 'number' } : {},
        value === null && !/log10|factor|loss|accuracy/.test(name) ? 'none' : digits(value)));
    }
    return row;
  }));
  const more = sorted.length > SHOWN ? `; the first ${SHOWN} are listed` : '';
  document.getElementById('count').textContent =
    `${sorted.length} of ${total} networks are chosen by the menus${more}.`;
}

// --- all of it ---------------------------------------------------------------------------------

async function draw() {
  for (const menu of menus) document.getElementById(`menu-${menu}`).value = state[menu];
  slider.value = depths.indexOf(Number(state.depth));
  slider.setAttribute('aria-valuetext', `${state.depth} hidden layers`);
  depthSaid.textContent = `${state.depth} hidden layers`;
  const chosen = chosenRows(), { lines, zeros } = flowRows(chosen);
  fillTable(chosen);
  const every = Math.max(1, Math.ceil(lines.length / HOVERED));
  const said = [DATA.note];
  if (zeros) said.push(`${zeros} of the networks shown have a gradient of exactly 0 in some layer; `
    + 'their lines end there.');
  if (!lines.length) said.push('No network of this depth is chosen.');
  if (DATA.menus.length && menus.length === 0) said.push('All networks differ in seed and depth.');
  document.getElementById('said').textContent = said.filter(Boolean).join(' ');
  const none = [{ layer: 1, depth: depths[0], y: 0, series: 'none' }]; // a chart needs a scale
  const drawn = lines.length ? lines : none;
  const orNone = (rows) => (rows.length ? rows : none);
  await show('flow', { lines: drawn, points: drawn.filter((row, k) => k % every === 0),
    band: bandRows(lines) });
  await show('lost', { rows: orNone(depthRows(chosen, 'log10_change', -1)) });
  for (const name of scored) {
    await show(name, { rows: orNone(depthRows(chosen, name, 1)) });
  }
  document.documentElement.dataset.drawn = String(performance.now());
}

document.getElementById('what').textContent =
  `${total} networks` + DATA.menus.filter((menu) => values[menu].length === 1)
    .map((menu) => `, ${menu} ${values[menu][0]}`).join('');
readState();
addEventListener('hashchange', () => { readState(); draw(); });
onTheme.push(() => { for (const name of Object.keys(views)) delete views[name]; draw(); });
draw();
