// Asking for the model to be loaded anew.

const dialog = document.getElementById("confirm");
const answer = dialog.querySelector(".answer");
const button = document.getElementById("swap-now");

document.getElementById("swap").addEventListener("click", () => {
  answer.textContent = "";
  dialog.showModal();
});

button.addEventListener("click", async () => {
  button.disabled = true;
  answer.textContent = "Loading…";
  try {
    const response = await fetch("api/swap", { method: "POST", headers: { "X-Simplenet-Edge": "1" } });
    const said = await response.json();
    answer.textContent = response.ok ? said.text : said.error;
  } catch {
    answer.textContent = "No answer from the line.";
  }
  button.disabled = false;
});
