// Something that changes the line: asked for twice, and its answer shown. `address` is a function.

export function confirmPost(openId, dialogId, doId, address, meanwhile = "") {
  const dialog = document.getElementById(dialogId);
  const answer = dialog.querySelector(".answer");
  const button = document.getElementById(doId);

  document.getElementById(openId).addEventListener("click", () => {
    answer.textContent = "";
    dialog.showModal();
  });

  button.addEventListener("click", async () => {
    button.disabled = true;
    answer.textContent = meanwhile;
    try {
      const response = await fetch(address(), { method: "POST", headers: { "X-Simplenet-Edge": "1" } });
      const said = await response.json();
      answer.textContent = response.ok ? said.text : said.error;
    } catch {
      answer.textContent = "No answer from the line.";
    }
    button.disabled = false;
  });
}
