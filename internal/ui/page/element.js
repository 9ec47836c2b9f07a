// element makes an element with a text.
export function element(name, content, className) {
  const e = document.createElement(name);
  if (className) e.className = className;
  e.textContent = content;
  return e;
}
