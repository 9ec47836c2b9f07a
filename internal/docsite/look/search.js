// Finds sections with all the words that are typed, or that the address has as ?q=, those with a word in a heading first.
// search-index.js has the sections.
"use strict";

const field = document.getElementById("search");
const found = document.getElementById("found");
const body = document.getElementById("body");
const most = 30;

for (const s of sections) {
  s.title = (s.page + " " + s.head).toLowerCase();
  s.words = (s.title + " " + s.text).toLowerCase();
}

// around is the text near the first of the words.
function around(text, words) {
  const low = text.toLowerCase();
  const at = Math.min(...words.map((w) => low.indexOf(w)).filter((i) => i >= 0));
  const from = Number.isFinite(at) ? Math.max(0, at - 60) : 0;
  return (from > 0 ? "… " : "") + text.slice(from, from + 200) + (from + 200 < text.length ? " …" : "");
}

function search() {
  const words = field.value.toLowerCase().split(/\s+/).filter(Boolean);
  found.hidden = words.length === 0;
  body.hidden = !found.hidden;
  if (found.hidden) return;
  const inTitle = (s) => words.filter((w) => s.title.includes(w)).length;
  const hits = sections.filter((s) => words.every((w) => s.words.includes(w))).sort((a, b) => inTitle(b) - inTitle(a));
  found.replaceChildren(...hits.slice(0, most).map((s) => {
    const item = document.createElement("li");
    const link = document.createElement("a");
    link.href = document.body.dataset.root + s.to;
    link.textContent = s.head ? s.page + ": " + s.head : s.page;
    link.addEventListener("click", () => { field.value = ""; search(); });
    const text = document.createElement("p");
    text.textContent = around(s.text, words);
    item.append(link, text);
    return item;
  }));
  if (hits.length === 0) {
    const none = document.createElement("li");
    none.textContent = "No section has all of these words.";
    found.append(none);
  }
}

field.addEventListener("input", search);
document.addEventListener("keydown", (e) => {
  if (e.key === "/" && document.activeElement !== field) {
    e.preventDefault();
    field.focus();
  } else if (e.key === "Escape" && document.activeElement === field) {
    field.value = "";
    search();
    field.blur();
  } else if (e.key === "Enter" && document.activeElement === field) {
    const first = found.querySelector("a");
    if (first) first.click();
  }
});
field.value = new URLSearchParams(location.search).get("q") || field.value;
search();
