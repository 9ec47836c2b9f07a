// Makes what is to be typed easy to copy: in console blocks each prompt is a button that copies the command behind it, with the lines
// it goes on in, and no prompt is part of what is selected; other blocks of a shell get one button.
"use strict";

async function copy(text, button) {
  try {
    await navigator.clipboard.writeText(text);
  } catch { // as on a page that was opened as a file
    const field = document.createElement("textarea");
    field.value = text;
    document.body.append(field);
    field.select();
    document.execCommand("copy");
    field.remove();
  }
  button.dataset.copied = "";
  setTimeout(() => delete button.dataset.copied, 1200);
}

function button(label, what, text) {
  const b = document.createElement("button");
  b.type = "button";
  b.textContent = label;
  b.title = what;
  b.setAttribute("aria-label", what);
  b.addEventListener("click", () => copy(text(), b));
  return b;
}

function prompts(code) {
  const parts = [];
  let command = null; // its lines, as long as it can go on
  for (const line of code.textContent.replace(/\n$/, "").split("\n")) {
    if (line.startsWith("$ ")) {
      const lines = [line.slice(2)];
      command = lines;
      const b = button("$", "Copy this command", () => lines.join("\n"));
      b.className = "prompt";
      parts.push(b, " " + line.slice(2) + "\n");
    } else if (line.startsWith("> ") && command) {
      command.push(line.slice(2));
      const more = document.createElement("span");
      more.className = "prompt";
      more.textContent = ">";
      parts.push(more, " " + line.slice(2) + "\n");
    } else {
      command = null;
      parts.push(line + "\n");
    }
  }
  code.replaceChildren(...parts);
}

for (const code of document.querySelectorAll("pre > code.language-console")) prompts(code);
for (const code of document.querySelectorAll("pre > code.language-sh")) {
  const b = button("Copy", "Copy this block", () => code.textContent);
  b.className = "copy";
  code.parentElement.append(b);
}
