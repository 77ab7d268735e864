// Markdown to DOM nodes. Text only ever becomes a text node, so nothing in it can run.
// Knows what answers use: headings, paragraphs, fences, lists, quotes, tables, rules; code,
// emphasis, links and [n] citations inline. Anything else stays as it was written.

const DEEPEST = 8; // nested quotes and lists below this are shown as plain text

const FENCE = /^ {0,3}(`{3,}|~{3,})\s*([^\s`]*)/;
const HEADING = /^ {0,3}(#{1,6})\s+(.*?)\s*#*\s*$/;
const RULE = /^ {0,3}([-*_])(?:\s*\1){2,}\s*$/;
const QUOTE = /^ {0,3}> ?/;
const ITEM = /^(\s*)([-*+]|\d{1,9}[.)])(\s+)(.*)$/;
const DELIMITERS = /^\s*\|?\s*:?-+:?\s*(?:\|\s*:?-+:?\s*)*\|?\s*$/;

/** `text` as a fragment. `cite(n)` gives the node for [n], or null to leave it as text. */
export function render(text, cite = () => null) {
  const lines = text.replace(/\r\n?/g, "\n").replace(/\t/g, "    ").split("\n");
  return blocks(lines, cite, 0);
}

/** `text` without its marks, on one line. */
export function plain(text) {
  const holder = document.createElement("div");
  holder.append(render(text));
  for (const caption of holder.querySelectorAll("figcaption")) caption.remove();
  const ends = "p, li, pre, td, th, h3, h4, h5, h6";
  for (const block of holder.querySelectorAll(ends)) block.append(" ");
  return holder.textContent.replace(/\s+/g, " ").trim();
}

/** The address when a link may lead there, else null. */
export function safe(address) {
  try {
    const url = new URL(address);
    return url.protocol === "https:" || url.protocol === "http:" ? url.href : null;
  } catch {
    return null;
  }
}

export function element(name, attributes = {}, ...children) {
  const node = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  node.append(...children);
  return node;
}

function blocks(lines, cite, depth) {
  const out = document.createDocumentFragment();
  let at = 0;
  while (at < lines.length) {
    if (!lines[at].trim()) {
      at += 1;
      continue;
    }
    const block = READERS.find(([starts]) => starts(lines, at, depth));
    const [node, next] = block[1](lines, at, cite, depth);
    out.append(node);
    at = next;
  }
  return out;
}

// In order: the first whose test holds reads the block and says where the next one starts.
const READERS = [
  [(lines, at) => FENCE.test(lines[at]), fence],
  [(lines, at) => HEADING.test(lines[at]), heading],
  [(lines, at) => RULE.test(lines[at]), (_lines, at) => [element("hr"), at + 1]],
  [(lines, at, depth) => depth < DEEPEST && QUOTE.test(lines[at]), quote],
  [(lines, at, depth) => depth < DEEPEST && ITEM.test(lines[at]), list],
  [(lines, at) => startsTable(lines, at), table],
  [() => true, paragraph],
];

function fence(lines, at) {
  const [, mark, language] = lines[at].match(FENCE);
  const indent = lines[at].search(/\S/);
  const ends = (line) => line.trim().startsWith(mark) && !line.trim().replaceAll(mark[0], "");
  let end = at + 1;
  while (end < lines.length && !ends(lines[end])) end += 1;
  const margin = new RegExp(`^ {0,${indent}}`);
  const code = lines.slice(at + 1, end).map((line) => line.replace(margin, "")).join("\n");
  return [codeBlock(code, language.toLowerCase()), end + 1];
}

function codeBlock(code, language) {
  const caption = element("figcaption", {}, element("span", {}, language || "text"));
  if (navigator.clipboard) {
    const button = element("button", { type: "button", class: "quiet" }, "Copy");
    button.addEventListener("click", () => copy(code, button));
    caption.append(button);
  }
  const body = element("code");
  if (language === "python" || language === "py") paint(code, body);
  else body.append(code);
  return element("figure", { class: "code" }, caption, element("pre", { tabindex: "0" }, body));
}

async function copy(code, button) {
  await navigator.clipboard.writeText(code);
  button.textContent = "Copied";
  setTimeout(() => (button.textContent = "Copy"), 1600);
}

const PYTHON = new RegExp(
  [
    String.raw`(?<comment>#.*)`,
    String.raw`(?<string>[rbfu]{0,2}(?:"""[^]*?(?:"""|$)|'''[^]*?(?:'''|$)|"(?:\\.|[^"\\\n])*"|'(?:\\.|[^'\\\n])*'))`,
    String.raw`(?<decorator>(?<=^\s*)@[\w.]+)`,
    String.raw`(?<keyword>\b(?:and|as|assert|async|await|break|class|continue|def|del|elif|else|except|finally|for|from|global|if|import|in|is|lambda|nonlocal|not|or|pass|raise|return|try|while|with|yield|None|True|False)\b)`,
    String.raw`(?<number>\b\d[\d_]*(?:\.\d+)?\b)`,
  ].join("|"),
  "gm",
);

function paint(code, into) {
  let from = 0;
  for (const match of code.matchAll(PYTHON)) {
    const [kind] = Object.entries(match.groups).find(([, value]) => value !== undefined);
    into.append(code.slice(from, match.index), element("span", { class: kind }, match[0]));
    from = match.index + match[0].length;
  }
  into.append(code.slice(from));
}

function heading(lines, at, cite) {
  const [, marks, text] = lines[at].match(HEADING);
  // The question is the h2 above: an answer's headings start below it.
  const level = Math.min(marks.length + 2, 6);
  return [element(`h${level}`, {}, inline(text, cite)), at + 1];
}

function quote(lines, at, cite, depth) {
  let end = at;
  while (end < lines.length && QUOTE.test(lines[end])) end += 1;
  const inner = lines.slice(at, end).map((line) => line.replace(QUOTE, ""));
  return [element("blockquote", {}, blocks(inner, cite, depth + 1)), end];
}

function list(lines, at, cite, depth) {
  const [, margin, marker] = lines[at].match(ITEM);
  const ordered = /\d/.test(marker);
  const node = element(ordered ? "ol" : "ul");
  if (ordered && parseInt(marker, 10) !== 1) node.setAttribute("start", parseInt(marker, 10));
  const isSibling = (line) => {
    const item = line.match(ITEM);
    return item && Math.abs(item[1].length - margin.length) < 2 && /\d/.test(item[2]) === ordered;
  };
  while (at < lines.length && isSibling(lines[at])) {
    const [content, next] = itemLines(lines, at);
    node.append(element("li", {}, itemNodes(content, cite, depth + 1)));
    at = next;
    while (at + 1 < lines.length && !lines[at].trim() && isSibling(lines[at + 1])) at += 1;
  }
  return [node, at];
}

/** The lines of one item, outdented, and where the next begins. */
function itemLines(lines, at) {
  const [, margin, marker, gap, first] = lines[at].match(ITEM);
  const indent = margin.length + 2;
  const outdent = new RegExp(`^ {0,${margin.length + marker.length + gap.length}}`);
  const content = [first];
  let next = at + 1;
  for (; next < lines.length; next += 1) {
    const line = lines[next];
    const indented = line.search(/\S/) >= indent;
    const after = lines[next + 1] ?? "";
    if (!line.trim() ? after.search(/\S/) < indent : !indented && isStart(lines, next)) break;
    if (line.trim() && !indented && !content.at(-1)) break;
    content.push(line.replace(outdent, ""));
  }
  return [content, next];
}

/** An item of one paragraph is shown tight, without the paragraph around it. */
function itemNodes(content, cite, depth) {
  const nodes = blocks(content, cite, depth);
  const [first, second] = nodes.children;
  if (first?.tagName === "P" && second?.tagName !== "P") first.replaceWith(...first.childNodes);
  return nodes;
}

function startsTable(lines, at) {
  const under = lines[at + 1] ?? "";
  return lines[at].includes("|") && under.includes("-") && DELIMITERS.test(under);
}

function table(lines, at, cite) {
  const row = (line, tag) =>
    element("tr", {}, ...cells(line).map((cell) => element(tag, {}, inline(cell, cite))));
  const body = element("tbody");
  const head = element("thead", {}, row(lines[at], "th"));
  let end = at + 2;
  for (; end < lines.length && lines[end].includes("|"); end += 1) {
    body.append(row(lines[end], "td"));
  }
  const region = { class: "table", tabindex: "0", role: "region", "aria-label": "Table" };
  return [element("div", region, element("table", {}, head, body)), end];
}

function cells(line) {
  const inner = line.trim().replace(/^\||(?<!\\)\|$/g, "");
  return inner.split(/(?<!\\)\|/).map((cell) => cell.trim().replaceAll("\\|", "|"));
}

function isStart(lines, at) {
  const tests = [FENCE, HEADING, RULE, QUOTE, ITEM];
  return tests.some((test) => test.test(lines[at])) || startsTable(lines, at);
}

function paragraph(lines, at, cite) {
  let end = at + 1;
  while (end < lines.length && lines[end].trim() && !isStart(lines, end)) end += 1;
  const text = lines.slice(at, end).map((line) => line.trimStart()).join("\n");
  return [element("p", {}, inline(text.trimEnd(), cite)), end];
}

// __x__ is left alone: in this field it is a Python name more often than bold text.
const INLINE = new RegExp(
  [
    String.raw`\\(?<escaped>[!-/:-@[-\`{-~])`,
    String.raw`(?<!\`)(?<ticks>\`+)(?!\`)(?<code>[^]+?)(?<!\`)\k<ticks>(?!\`)`,
    String.raw`\[(?<n>\d{1,3})\](?!\()`,
    String.raw`!?\[(?<label>(?:[^\[\]]|\[[^\[\]]*\])*)\]\((?<target>(?:[^\s()]|\([^\s()]*\))*)(?:\s+"[^"]*")?\)`,
    String.raw`<(?<auto>https?://[^\s<>]+)>`,
    String.raw`(?<bare>https?://[^\s<>\[\]"\`]*[^\s<>\[\]"\`.,;:!?)*_'])`,
    String.raw`\*\*(?=\S)(?<strong>[^]+?)(?<=\S)\*\*`,
    String.raw`\*(?=[^\s*])(?<em>[^*]+?)(?<=\S)\*`,
    String.raw`(?<!\w)_(?=[^\s_])(?<under>[^_]+?)(?<=\S)_(?!\w)`,
    String.raw`~~(?=\S)(?<del>[^]+?)(?<=\S)~~`,
    String.raw`(?<break>(?: {2,}|\\)\n)`,
  ].join("|"),
  "g",
);

function inline(text, cite, depth = 0) {
  const out = document.createDocumentFragment();
  if (depth > DEEPEST) {
    out.append(text);
    return out;
  }
  let from = 0;
  for (const match of text.matchAll(INLINE)) {
    out.append(text.slice(from, match.index), span(match, cite, depth + 1));
    from = match.index + match[0].length;
  }
  out.append(text.slice(from));
  return out;
}

function span(match, cite, depth) {
  const found = match.groups;
  if (found.escaped !== undefined) return found.escaped;
  if (found.code !== undefined) return element("code", {}, found.code.replace(/^ (.*) $/s, "$1"));
  if (found.n !== undefined) return cite(Number(found.n)) ?? match[0];
  if (found.break !== undefined) return element("br");
  const address = found.auto ?? found.bare;
  if (address !== undefined) return link(address, address);
  if (found.label !== undefined) return link(found.target, inline(found.label, () => null, depth));
  const marked = { strong: found.strong, em: found.em ?? found.under, del: found.del };
  const [tag, inner] = Object.entries(marked).find(([, value]) => value !== undefined);
  return element(tag, {}, inline(inner, cite, depth));
}

/** A link out of the page; what is no web address stays its label. */
export function link(address, label) {
  const href = safe(address);
  if (!href) return label;
  const anchor = element("a", { href, target: "_blank", rel: "noopener noreferrer" }, label);
  for (const nested of anchor.querySelectorAll("a")) nested.replaceWith(...nested.childNodes);
  return anchor;
}
