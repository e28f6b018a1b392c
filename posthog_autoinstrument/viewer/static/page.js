// Live updates, keys, folding and copying. Without this script every page still works: forms have buttons, rows are links.
"use strict";
document.documentElement.classList.add("scripted");

// --- live: ask whether the store has changed, and if so take the new content of what is marked data-live ---

const EVERY_MS = 2000;
const status_line = document.getElementById("live");
let version = document.body.dataset.version;
let pause = EVERY_MS;

function say(state, words) {
  if (status_line.dataset.state === state) return; // screen readers speak every change
  status_line.dataset.state = state;
  status_line.textContent = words;
}

async function look() {
  if (!document.hidden && document.querySelector("[data-live]")) {
    try {
      const answer = await fetch("/pulse", { redirect: "error" });
      if (!answer.ok) throw new Error(String(answer.status));
      const now = await answer.text();
      if (now !== version) {
        const began = performance.now();
        await refresh();
        // A page that takes long to make is not asked for all the time.
        pause = Math.max(EVERY_MS, 5 * (performance.now() - began));
      }
      say("live", "Live");
    } catch (error) {
      say("lost", "Not connected");
    }
  }
  setTimeout(look, pause);
}

async function refresh() {
  const answer = await fetch(location.href, { redirect: "error" });
  if (!answer.ok) throw new Error(String(answer.status));
  const fresh = new DOMParser().parseFromString(await answer.text(), "text/html");
  const selected = getSelection();
  for (const old of document.querySelectorAll("[data-live]")) {
    const made = fresh.getElementById(old.id);
    if (!made || old.innerHTML === made.innerHTML) continue;
    // What somebody has marked to copy stays until the next change.
    if (selected && !selected.isCollapsed && old.contains(selected.anchorNode)) return;
    const focus = place(document.activeElement, old);
    merge(old, made);
    restore_folds(old);
    find(focus, old)?.focus({ preventScroll: true });
  }
  version = fresh.body.dataset.version;
}

// Bring `old` to the content of `made` and keep every node that has not changed: scroll places, open details and the
// browser's own anchoring of what is in view live in the nodes.
function merge(old, made) {
  if (old.isEqualNode(made)) return;
  const keyed = old.hasAttribute("data-keyed");
  if (!keyed && (old.nodeName !== made.nodeName || !same_shape(old, made))) {
    for (const { name, value } of made.attributes) old.setAttribute(name, value);
    old.replaceChildren(...[...made.childNodes].map((node) => document.importNode(node, true)));
    return;
  }
  for (const { name } of [...old.attributes]) if (!made.hasAttribute(name) && name !== "open" && name !== "hidden") old.removeAttribute(name);
  for (const { name, value } of made.attributes) if (old.getAttribute(name) !== value) old.setAttribute(name, value);
  if (keyed) return merge_rows(old, made);
  const children = [...old.childNodes];
  [...made.childNodes].forEach((node, at) => {
    if (node.nodeType === Node.ELEMENT_NODE) merge(children[at], node);
    else if (children[at].nodeValue !== node.nodeValue) children[at].nodeValue = node.nodeValue;
  });
}

function same_shape(old, made) {
  const one = old.childNodes, two = made.childNodes;
  return one.length === two.length && [...one].every((node, at) => node.nodeName === two[at].nodeName);
}

function merge_rows(old, made) {
  const known = new Map([...old.children].map((row) => [row.dataset.key, row]));
  let at = old.firstElementChild;
  for (const row of [...made.children]) {
    let mine = known.get(row.dataset.key);
    known.delete(row.dataset.key);
    if (mine) merge(mine, row);
    else {
      mine = document.importNode(row, true);
      mine.classList.add("new");
    }
    if (mine === at) at = at.nextElementSibling;
    else old.insertBefore(mine, at);
  }
  for (const row of known.values()) row.remove();
}

function place(element, root) {
  if (!element || !root.contains(element)) return null;
  const row = element.closest("[data-key]");
  return { id: element.id, key: row?.dataset.key, name: element.nodeName, href: element.getAttribute("href"), element };
}

function find(was, root) {
  if (!was) return null;
  if (root.contains(was.element)) return document.activeElement === was.element ? null : was.element;
  if (was.id) return document.getElementById(was.id);
  const row = was.key && [...root.querySelectorAll("[data-key]")].find((one) => one.dataset.key === was.key);
  return [...(row || root).querySelectorAll(was.name)].find((one) => one.getAttribute("href") === was.href);
}

// --- folding of trees ---

const folded = new Set();

function fold(row, shut) {
  const depth = Number(row.dataset.depth);
  row.querySelector(".fold").setAttribute("aria-expanded", String(!shut));
  let below = Infinity; // depth of a folded row inside: what is below it stays hidden
  for (let next = row.nextElementSibling; next && Number(next.dataset.depth) > depth; next = next.nextElementSibling) {
    const at = Number(next.dataset.depth);
    if (at <= below) below = folded.has(next.dataset.key) ? at : Infinity;
    next.hidden = shut || at > below;
  }
}

function restore_folds(root) {
  for (const row of root.querySelectorAll("tr[data-depth]")) row.hidden = false;
  for (const row of root.querySelectorAll("tr[data-depth]")) if (folded.has(row.dataset.key) && row.querySelector(".fold")) fold(row, true);
}

// --- what is clicked ---

document.addEventListener("click", async (event) => {
  const button = event.target.closest("button");
  if (button?.classList.contains("fold")) {
    const row = button.closest("tr");
    const shut = button.getAttribute("aria-expanded") === "true";
    if (shut) folded.add(row.dataset.key);
    else folded.delete(row.dataset.key);
    fold(row, shut);
  } else if (button?.dataset.copy) {
    const note = document.getElementById("copied");
    try {
      const answer = await fetch(button.dataset.copy);
      await navigator.clipboard.writeText(await answer.text());
      note.textContent = "Copied";
    } catch (error) {
      note.textContent = "The browser does not allow copying: use Open JSON";
    }
  }
});

document.addEventListener("change", (event) => {
  const form = event.target.form;
  if (form && "submits" in form.dataset) form.requestSubmit();
});

// Only what was chosen goes into the address.
document.addEventListener("formdata", (event) => {
  for (const [name, value] of [...event.formData]) if (value === "" && event.target.method === "get") event.formData.delete(name);
});

// --- keys ---

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.target.closest("input, select, textarea")) return;
  if (event.key === "/") {
    document.getElementById("q").focus();
    event.preventDefault();
  } else if (event.key === "j" || event.key === "k") {
    const links = [...document.querySelectorAll(".rows tr:not([hidden]) .open")];
    const row = document.activeElement?.closest("tr");
    const at = links.findIndex((link) => row && link.closest("tr") === row);
    const next = links[at < 0 ? 0 : at + (event.key === "j" ? 1 : -1)];
    next?.focus();
  } else if (event.key === "u") {
    document.querySelector("[data-up]")?.click();
  }
});

if (document.querySelector("[data-live]")) setTimeout(look, EVERY_MS);
else say("still", "");
