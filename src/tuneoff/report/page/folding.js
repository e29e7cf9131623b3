// Folding; a printed page has all of it.
const folded = [...document.querySelectorAll("details")];
const unfold = byId("unfold");
const nameUnfold = () => { unfold.textContent = folded.every((part) => part.open) ? "Fold all" : "Unfold all"; };
unfold.addEventListener("click", () => {
  const open = !folded.every((part) => part.open);
  for (const part of folded) part.open = open;
  nameUnfold();
});
for (const part of folded) part.addEventListener("toggle", nameUnfold);
let closed = [];
addEventListener("beforeprint", () => {
  closed = folded.filter((part) => !part.open);
  for (const part of closed) part.open = true;
});
addEventListener("afterprint", () => { for (const part of closed) part.open = false; });
