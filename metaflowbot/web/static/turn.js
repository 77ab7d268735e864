// One question with its reply, as a piece of the page.

import { element, link, plain, render, safe } from "./markdown.js";
import { mark } from "./preview.js";
import { Fault, at, escalate, rate } from "./stream.js";

const STEPS = ["searching", "reading", "checking"];
const SAID = {
  searching: "Searching the sources",
  reading: "Reading what was found",
  checking: "Checking the citations",
};

const HANDED = "A maintainer will look at it: their answer will stand behind this answer’s link.";

export class Turn {
  /** `retry` is called when the reader asks again after a fault. */
  constructor(question, retry) {
    this.root = document.querySelector("#turn").content.cloneNode(true).firstElementChild;
    this.part(".question").textContent = question;
    this.part(".failure button").addEventListener("click", retry);
    this.text = "";
    this.drawn = 0;
  }

  part(selector) {
    return this.root.querySelector(selector);
  }

  step({ step, hits }) {
    const now = STEPS.indexOf(step);
    this.part(".status").textContent = SAID[step];
    for (const item of this.root.querySelectorAll(".steps li")) {
      const place = STEPS.indexOf(item.dataset.step);
      item.className = place < now ? "done" : place === now ? "now" : "";
    }
    if (!hits.length) return;
    const titles = [...new Set(hits.map((hit) => hit.title))];
    this.part("[data-step=reading]").textContent = `Reading ${pages(titles.length)}`;
    this.part(".pages").textContent = titles.join("  ·  ");
  }

  /** Adds a piece of the text; drawn once a frame, however many pieces arrive. */
  add(text) {
    this.text += text;
    this.drawn ||= requestAnimationFrame(() => this.draw(() => null));
  }

  draw(cite) {
    cancelAnimationFrame(this.drawn);
    this.drawn = 0;
    this.part(".reply").hidden = false;
    this.part("[data-part=text]").replaceChildren(render(this.text, cite));
  }

  finish(answer) {
    this.text = answer.text;
    const cited = new Map(answer.citations.map((citation) => [citation.n, citation]));
    this.draw((n) => (cited.has(n) ? mark(cited.get(n), safe(cited.get(n).url)) : null));
    this.part(".reply").classList.toggle("abstained", answer.abstained);
    this.part(".absent").hidden = !answer.abstained;
    this.notice(answer.notice);
    this.sources(answer);
    this.part(".facts").replaceChildren(...facts(answer));
    this.part("footer").hidden = false;
    this.rating(answer.answer_id);
    this.sharing(answer.answer_id);
    this.people(answer);
    this.settle(answer.abstained ? "Not found in the sources" : "The answer is there");
  }

  fail(line, canRetry) {
    this.settle("");
    this.part(".failure").hidden = false;
    this.part(".failure span").textContent = line;
    this.part(".failure button").hidden = !canRetry;
  }

  /** The reader stopped it: what is there stays. */
  stop() {
    if (this.text) this.draw(() => null);
    this.notice("Stopped before the end.");
    this.part(".reply").hidden = false;
    this.settle("Stopped");
  }

  settle(said) {
    this.part(".steps").hidden = true;
    this.part(".pages").hidden = true;
    this.part("[data-part=text]").setAttribute("aria-busy", "false");
    this.part(".status").textContent = said;
  }

  notice(line) {
    this.part("[data-part=notice]").textContent = line;
    this.part("[data-part=notice]").hidden = !line;
  }

  sources({ citations, abstained }) {
    const section = this.part(".sources");
    section.hidden = !citations.length;
    section.querySelector("h3").textContent = abstained ? "Nearest pages" : "Sources";
    section.querySelector("ol").replaceChildren(...citations.map(source));
  }

  sharing(answerId) {
    const button = this.part(".share");
    button.hidden = !navigator.clipboard;
    button.addEventListener("click", async () => {
      await navigator.clipboard.writeText(at(`answers/${encodeURIComponent(answerId)}`).href);
      button.textContent = "Link copied";
    });
  }

  /** The way to people, and what they answered. `escalation` is there for a shared answer. */
  people({ answer_id: answerId, abstained, escalation }) {
    const button = this.part(".human");
    this.handed = Boolean(escalation);
    button.hidden = !abstained || this.handed;
    button.addEventListener("click", async () => {
      try {
        await escalate(answerId);
        button.hidden = this.handed = true;
        this.handedOn(HANDED);
      } catch (error) {
        if (!(error instanceof Fault)) throw error;
        this.handedOn(error.message);
      }
    });
    if (escalation) this.answered(escalation);
  }

  handedOn(line) {
    this.part(".handed").hidden = false;
    this.part(".handed").textContent = line;
  }

  answered({ state, text, url }) {
    const section = this.part(".human-answer");
    if (!text && !url) {
      this.handedOn(HANDED);
      return;
    }
    section.hidden = false;
    section.querySelector("h3").textContent =
      state === "declined" ? "A maintainer wrote" : "A maintainer answered";
    if (text) section.append(element("div", { class: "prose" }, render(text, () => null)));
    if (url) section.append(element("p", {}, link(url, "The write-up")));
  }

  rating(answerId) {
    const form = this.part(".reason");
    const buttons = [...this.root.querySelectorAll("[data-verdict]")];
    const send = async (verdict, reason) => {
      const thanks = this.part(".thanks");
      try {
        await rate(answerId, verdict, reason);
        thanks.textContent = "Thank you";
        for (const button of buttons) {
          button.setAttribute("aria-pressed", button.dataset.verdict === verdict);
        }
        return true;
      } catch (error) {
        if (!(error instanceof Fault)) throw error;
        thanks.textContent = error.message;
        return false;
      }
    };
    for (const button of buttons) {
      button.addEventListener("click", async () => {
        const sent = await send(button.dataset.verdict, "");
        form.hidden = !sent || button.dataset.verdict === "up";
        if (!form.hidden) this.part(".human").hidden = this.handed;
        if (form.hidden) return;
        form.querySelector("textarea").focus();
        form.scrollIntoView({ block: "nearest" });
      });
    }
    form.addEventListener("submit", async (event) => {
      event.preventDefault();
      form.hidden = await send("down", form.querySelector("textarea").value.trim());
    });
  }
}

function source(citation) {
  const number = element("span", { class: "number" }, String(citation.n));
  const title = element("p", { class: "title" }, link(citation.url, citation.title));
  const quote = element("p", { class: "quote" }, plain(citation.quote));
  const item = element("li", {}, number, title, quote);
  const host = safe(citation.url);
  if (host) title.append(element("span", { class: "host" }, new URL(host).host));
  return item;
}

/** The line below an answer: what wrote it, from what, how sure, how long. */
function facts({ model, generation, confidence, timings_ms: took }) {
  const stages = [["search", took.retrieve], ["writing", took.generate]].filter(([, ms]) => ms);
  const split = stages.map(([name, ms]) => `${name} ${seconds(ms)}`).join(", ");
  return [
    `Confidence ${Math.round(confidence * 100)}%`,
    model === "none" ? "Quoted, no model" : model,
    generation && `Index ${generation}`,
    took.total && seconds(took.total) + (stages.length > 1 ? ` (${split})` : ""),
  ]
    .filter(Boolean)
    .map((fact) => element("span", {}, fact));
}

function seconds(ms) {
  return ms < 1000 ? `${Math.round(ms)} ms` : `${(ms / 1000).toFixed(1)} s`;
}

function pages(count) {
  return count === 1 ? "1 page" : `${count} pages`;
}
