// What every page has: its state in the URL's fragment, and light or dark.
const fragment = {
  read() { return Object.fromEntries(new URLSearchParams(location.hash.slice(1))); },
  write(state) {
    const kept = Object.entries(state).filter(([, value]) => value !== undefined && value !== '');
    history.replaceState(null, '', '#' + new URLSearchParams(kept).toString());
  },
};
const element = (name, attributes = {}, ...children) => {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children);
  return made;
};
const isDark = () => (document.documentElement.dataset.theme ||
  (matchMedia('(prefers-color-scheme: dark)').matches ? 'dark' : 'light')) === 'dark';
const onTheme = [];
document.getElementById('theme').addEventListener('click', () => {
  document.documentElement.dataset.theme = isDark() ? 'light' : 'dark';
  onTheme.forEach((tell) => tell());
});
const digits = (value, count = 3) => value === null || value === undefined ? 'not a number'
  : value === '-inf' ? 'exactly 0' : value === 'inf' ? 'infinite'
  : typeof value !== 'number' ? String(value)
  : Number(value.toPrecision(count)).toString().replace('-', '\u2212');
