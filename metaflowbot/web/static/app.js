// The conversation: takes questions, follows the stream, keeps the history for the next question.

import { Fault, ask, shared } from "./stream.js";
import { Turn } from "./turn.js";

const REMEMBERED = 8; // messages sent along with a question
const [composer, question, send, conversation, examples, fresh] = [
  "composer", "question", "send", "conversation", "examples", "fresh",
].map((id) => document.getElementById(id));
const touch = matchMedia("(hover: none)");

let history = [];
let running = null;

async function answer(text) {
  const turn = begin(text);
  const controller = (running = new AbortController());
  busy(true);
  try {
    for await (const [event, data] of ask({ question: text, history }, controller.signal)) {
      follow(turn, event, data, text);
    }
  } catch (error) {
    report(turn, error, controller);
  }
  if (running === controller) busy(false);
}

/** Shows the answer of a shared link; the next question goes on from there. */
async function open(answerId) {
  try {
    const data = await shared(answerId);
    follow(begin(data.question), "answer", data, data.question);
  } catch (error) {
    if (!(error instanceof Fault)) throw error;
    begin("").fail(error.message, false);
  }
}

function begin(text) {
  document.body.dataset.started = "";
  fresh.hidden = false;
  const turn = new Turn(text, () => {
    if (running) return;
    turn.root.remove();
    answer(text);
  });
  conversation.append(turn.root);
  turn.step({ step: "searching", hits: [] });
  turn.root.scrollIntoView({ block: "start" });
  return turn;
}

function follow(turn, event, data, text) {
  if (event === "progress") turn.step(data);
  else if (event === "delta") turn.add(data.text);
  else if (event === "answer") {
    turn.finish(data);
    history.push({ role: "user", content: text }, { role: "assistant", content: data.text });
    history = history.slice(-REMEMBERED);
  }
}

function report(turn, error, controller) {
  if (controller.signal.aborted) turn.stop();
  else if (!(error instanceof Fault)) throw error;
  else if (error.status === 401) turn.fail("Your sign-in has ended: reload the page.", false);
  else turn.fail(error.message, error.status !== 422);
}

function busy(is) {
  if (!is) running = null;
  composer.classList.toggle("busy", is);
  send.setAttribute("aria-label", is ? "Stop" : "Ask");
}

function grow() {
  question.style.height = "auto";
  question.style.height = `${Math.min(question.scrollHeight, 220)}px`;
}

function submit(text) {
  if (!text.trim() || running) return;
  question.value = "";
  grow();
  if (touch.matches) question.blur();
  else question.focus();
  answer(text.trim());
}

composer.addEventListener("submit", (event) => {
  event.preventDefault();
  if (running) running.abort();
  else submit(question.value);
});
question.addEventListener("keydown", (event) => {
  if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
  event.preventDefault();
  submit(question.value);
});
question.addEventListener("input", grow);
examples.addEventListener("click", (event) => {
  if (event.target.closest("button")) submit(event.target.textContent);
});
fresh.addEventListener("click", () => {
  running?.abort();
  busy(false);
  history = [];
  conversation.replaceChildren();
  delete document.body.dataset.started;
  fresh.hidden = true;
  question.focus();
});

composer.hidden = examples.hidden = false;
document.getElementById("scriptless").hidden = true;
const opened = document.body.dataset.answer;
if (opened) open(opened);
else if (!touch.matches) question.focus();
