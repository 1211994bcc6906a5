// Parts of the gallery that somebody marks as good or bad, and what the line says when it is taught with them.
import { count, setText } from "./dom.js";

const byId = (id) => document.getElementById(id);
const buttons = { good: byId("mark-good"), bad: byId("mark-bad") };
const marks = new Map(); // name of the kept picture -> good or bad
let shown = null; // the kept picture that is shown large
let canTeach = false;

export function offerLesson(isOffered) {
  canTeach = isOffered;
  showMarks();
}

/** Offer to mark the picture that is shown large; `kept` is null where it is not kept. */
export function offerMarks(kept) {
  shown = kept;
  showMarks();
}

function showMarks() {
  for (const [mark, button] of Object.entries(buttons)) {
    button.hidden = !canTeach || shown === null;
    button.setAttribute("aria-pressed", String(marks.get(shown) === mark));
  }
  const all = [...marks.values()];
  const good = all.filter((mark) => mark === "good").length;
  setText(byId("lesson-marks"), `${count(good)} parts marked good, ${count(all.length - good)} bad`);
  byId("lesson").hidden = !canTeach || (all.length === 0 && byId("lesson-answer").textContent === "");
  byId("lesson-teach").disabled = all.length === 0;
}

function named(mark) {
  return [...marks].filter(([, of]) => of === mark).map(([name]) => name);
}

for (const [mark, button] of Object.entries(buttons)) {
  button.addEventListener("click", () => {
    if (marks.get(shown) === mark) marks.delete(shown);
    else marks.set(shown, mark);
    byId("lesson-answer").textContent = "";
    showMarks();
  });
}

byId("lesson-forget").addEventListener("click", () => {
  marks.clear();
  byId("lesson-answer").textContent = "";
  showMarks();
});

byId("lesson-teach").addEventListener("click", async () => {
  const answer = byId("lesson-answer"), button = byId("lesson-teach");
  const body = JSON.stringify({ good: named("good"), bad: named("bad"), by: byId("lesson-by").value });
  button.disabled = true;
  answer.textContent = "Learning…";
  try {
    const response = await fetch("api/teach", { method: "POST", headers: { "X-Simplenet-Edge": "1" }, body });
    const said = await response.json();
    if (response.ok) marks.clear();
    answer.textContent = response.ok ? said.text : said.error;
  } catch {
    answer.textContent = "No answer from the line.";
  }
  showMarks();
});
