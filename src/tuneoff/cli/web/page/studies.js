// The list of studies: kept up to date, and some chosen to be compared.
const AGAIN = 3000;
const studies = byId("studies");
const compareButton = byId("compare");
const chosenStudies = () => [...studies.querySelectorAll("input:checked")].map((box) => box.value);
studies?.addEventListener("change", () => { compareButton.disabled = chosenStudies().length < 2; });
compareButton?.addEventListener("click", () => {
  location.href = `/compare?${new URLSearchParams(chosenStudies().map((path) => ["study", path]))}`;
});
// Without a result there is no report to link to, and with a problem there is nothing to follow.
const needsAnotherRow = (row, state) => row.dataset.links !== String(Boolean(state.done) && !state.problem) || row.dataset.problem !== String(Boolean(state.problem));
async function lookAgain() {
  try {
    const states = await (await fetch("/studies.json")).json();
    const rows = new Map([...document.querySelectorAll("tr[data-path]")].map((row) => [row.dataset.path, row]));
    // A study that is new, gone, readable again or has its first result needs another row.
    if (states.length !== rows.size || states.some((state) => !rows.has(state.path) || needsAnotherRow(rows.get(state.path), state))) {
      location.reload();
      return;
    }
    for (const state of states) {
      const row = rows.get(state.path);
      row.querySelector(".state").textContent = state.state;
      row.querySelector(".done").textContent = `${state.done} of ${state.planned}`;
      row.querySelector(".done").dataset.value = state.done;
      row.querySelector(".changed").textContent = state.changed.slice(0, 16).replace("T", " ") || "–";
    }
  } catch { /* The server has ended, or is away; the next look tells. */ }
  setTimeout(lookAgain, AGAIN);
}
setTimeout(lookAgain, AGAIN);
