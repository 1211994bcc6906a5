// Small things for the other modules. Text from the server only ever becomes textContent or an attribute.

export function field(root, name) {
  return root.querySelector(`[data-field="${name}"]`);
}

export function setText(node, text) {
  if (node.textContent !== text) node.textContent = text; // what doesn't change isn't announced again
}

export function clone(id) {
  return document.getElementById(id).content.firstElementChild.cloneNode(true);
}

/** Fill a <dl class="rows"> with [label, value, is a fault] triples; empty values are left out. */
export function fillRows(list, rows) {
  const kept = rows.filter(([, value]) => value !== null && value !== undefined && value !== "");
  while (list.children.length > kept.length) list.lastElementChild.remove();
  while (list.children.length < kept.length) {
    const row = document.createElement("div");
    row.append(document.createElement("dt"), document.createElement("dd"));
    list.append(row);
  }
  kept.forEach(([label, value, fault], i) => {
    const [term, detail] = list.children[i].children;
    setText(term, label);
    setText(detail, String(value));
    detail.title = String(value);
    list.children[i].classList.toggle("fault", Boolean(fault));
  });
}

export function showFault(node, text) {
  node.hidden = !text;
  setText(node, text ?? "");
}

const whole = new Intl.NumberFormat("en-GB");

export function count(value) {
  return value === null || value === undefined ? "–" : whole.format(value);
}

/** A number with about four digits. */
export function number(value) {
  if (value === null || value === undefined) return "–";
  const size = Math.abs(value);
  if (size >= 10000) return whole.format(Math.round(value));
  return value.toFixed(size >= 1000 ? 0 : size >= 100 ? 1 : size >= 10 ? 2 : 3);
}

export function percent(share) {
  if (share === null || share === undefined) return "–";
  return `${(100 * share).toFixed(share > 0 && share < 0.1 ? 2 : 1)} %`;
}

export function milliseconds(value) {
  if (value === null || value === undefined) return "–";
  return value >= 1000 ? `${(value / 1000).toFixed(1)} s` : `${value.toFixed(value >= 100 ? 0 : 1)} ms`;
}

export function duration(seconds) {
  const s = Math.floor(seconds);
  if (s < 60) return `${s} s`;
  if (s < 3600) return `${Math.floor(s / 60)} min`;
  if (s < 86400) return `${Math.floor(s / 3600)} h ${Math.floor((s % 3600) / 60)} min`;
  return `${Math.floor(s / 86400)} d ${Math.floor((s % 86400) / 3600)} h`;
}

export function clock(time) {
  return new Date(time).toLocaleTimeString("en-GB");
}
