const cases = [...document.querySelectorAll("details.case")];
const by = (id) => document.getElementById(id);
function filter() {
  const suite = by("suite").value, kind = by("kind").value;
  const words = by("words").value.toLowerCase().split(/\s+/).filter(Boolean);
  const onlyBad = by("faults").checked;
  let shown = 0;
  for (const item of cases) {
    const text = item.textContent.toLowerCase();
    const fits = (!suite || item.dataset.suites.split("|").includes(suite)) &&
      (!kind || item.dataset.kind === kind) && (!onlyBad || item.dataset.bad !== "0") &&
      words.every((word) => text.includes(word));
    item.hidden = !fits;
    shown += fits;
  }
  by("shown").textContent = `${shown} of ${cases.length}`;
}
for (const name of ["suite", "kind", "words", "faults"]) by(name).addEventListener("input", filter);
function open() {
  const item = document.getElementById(decodeURIComponent(location.hash.slice(1)));
  if (!item) return;
  item.hidden = false;
  item.open = true;
  item.scrollIntoView();
}
addEventListener("hashchange", open);
filter();
open();
