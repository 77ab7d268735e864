// The card that shows a citation's quote while the pointer, a finger or the focus is on it.

import { element, link, render } from "./markdown.js";

const LINGER = 180; // ms to move the pointer from the mark into the card
const MARGIN = 12; // px between the card and the window's edge

const card = element("aside", { class: "preview", id: "preview", role: "note", hidden: "" });
document.body.append(card);
let owner = null;
let leaving = 0;

/** A [n] mark that opens its source and previews its quote. `href` may be null. */
export function mark(citation, href) {
  const opens = href ? { href, target: "_blank", rel: "noopener noreferrer" } : { tabindex: "0" };
  const name = `Source ${citation.n}: ${citation.title}`;
  const anchor = element("a", { class: "cite", "aria-label": name, ...opens }, String(citation.n));
  anchor.addEventListener("pointerenter", (event) => {
    if (event.pointerType === "mouse") show(anchor, citation);
  });
  anchor.addEventListener("pointerleave", (event) => event.pointerType === "mouse" && leave());
  anchor.addEventListener("focus", () => {
    if (anchor.matches(":focus-visible")) show(anchor, citation);
  });
  anchor.addEventListener("blur", leave);
  anchor.addEventListener("click", (event) => onClick(event, anchor, citation));
  return anchor;
}

/** A finger has no hover: its tap shows the card, whose title opens the page. */
function onClick(event, anchor, citation) {
  if (event.pointerType !== "touch") return;
  event.preventDefault();
  if (owner === anchor && !card.hidden) hide();
  else show(anchor, citation);
}

function show(anchor, citation) {
  clearTimeout(leaving);
  owner?.removeAttribute("aria-describedby");
  owner = anchor;
  owner.setAttribute("aria-describedby", card.id);
  const quote = element("div", { class: "prose" }, render(citation.quote));
  card.replaceChildren(element("p", { class: "from" }, link(citation.url, citation.title)), quote);
  card.hidden = false;
  place(anchor.getBoundingClientRect());
}

function place(mark) {
  const { offsetWidth: width, offsetHeight: height } = card;
  const room = document.documentElement.clientWidth - width - MARGIN;
  const left = Math.max(MARGIN, Math.min(mark.left + mark.width / 2 - width / 2, room));
  const below = mark.bottom + 8;
  const fits = below + height + MARGIN <= innerHeight;
  const top = fits ? below : Math.max(mark.top - height - 8, MARGIN);
  card.style.left = `${left + scrollX}px`;
  card.style.top = `${top + scrollY}px`;
}

function leave() {
  clearTimeout(leaving);
  leaving = setTimeout(hide, LINGER);
}

function hide() {
  clearTimeout(leaving);
  card.hidden = true;
  owner?.removeAttribute("aria-describedby");
  owner = null;
}

card.addEventListener("pointerenter", () => clearTimeout(leaving));
card.addEventListener("pointerleave", leave);
addEventListener("keydown", (event) => event.key === "Escape" && hide());
addEventListener("pointerdown", (event) => {
  if (!event.target.closest(".preview, .cite")) hide();
});
