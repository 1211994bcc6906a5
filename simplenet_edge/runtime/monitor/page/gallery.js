// The last NG parts, and one of them large.
import { clock, clone, count, field, fillRows, number, setText } from "./dom.js";

const list = document.getElementById("ng");
const large = document.getElementById("large");
const shown = new Map();

export function showGallery(ng) {
  const ids = new Set(ng.items.map((item) => item.id));
  for (const [id, node] of shown) {
    if (!ids.has(id)) {
      node.remove();
      shown.delete(id);
    }
  }
  for (const item of ng.items.slice().reverse()) {
    if (!shown.has(item.id)) {
      shown.set(item.id, entry(item));
      list.prepend(shown.get(item.id));
    }
  }
  document.getElementById("ng-empty").hidden = ng.items.length > 0;
  list.hidden = ng.items.length === 0;
  const unkept = ng.not_kept ? `, ${count(ng.not_kept)} without a picture` : "";
  setText(field(document, "ng-count"), ng.total ? `${count(ng.total)} in all${unkept}` : "");
}

export function clearGallery() {
  list.replaceChildren();
  shown.clear();
}

function entry(item) {
  const node = clone("ng-template");
  const image = node.querySelector("img");
  image.src = item.image;
  image.alt = describe(item);
  setText(node.querySelector("b"), `NG ${number(item.score)}`);
  setText(node.querySelector(".soft"), [clock(item.wall_time), item.camera].filter(Boolean).join(" · "));
  node.querySelector("button").addEventListener("click", () => enlarge(item));
  return node;
}

function describe(item) {
  return `NG part ${item.name}${item.camera ? ` of camera ${item.camera}` : ""}, score ${number(item.score)}`;
}

function enlarge(item) {
  setText(document.getElementById("large-title"), `NG ${item.name}`);
  const image = large.querySelector("img");
  image.src = item.image;
  image.alt = describe(item);
  fillRows(large.querySelector("dl"), [
    ["Camera", item.camera],
    ["Frame", item.frame_id],
    ["Time", new Date(item.wall_time).toLocaleString("en-GB")],
    ["Score", `${number(item.score)}, threshold ${number(item.threshold)}`],
    ["Regions", item.area_px === null ? null : `${item.regions}, ${count(item.area_px)} pixels`],
    ["Bundle", item.bundle_id.slice(0, 12)],
  ]);
  large.showModal();
}
