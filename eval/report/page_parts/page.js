"use strict";

// Tables: a click on a heading sorts by it, a second one the other way round; what has no number goes last.
for (const table of document.querySelectorAll("table")) {
  const heads = [...table.tHead.rows[0].cells];
  const body = table.tBodies[0];
  heads.forEach((head, place) => {
    if (body.rows[0]?.cells[place].classList.contains("word")) head.classList.add("word");
    head.addEventListener("click", () => {
      const words = [...body.rows].some((row) => row.cells[place].classList.contains("word"));
      const first = words ? "ascending" : "descending";
      const other = words ? "descending" : "ascending";
      const order = head.getAttribute("aria-sort") === first ? other : first;
      heads.forEach((each) => each.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", order);
      const sign = order === "ascending" ? 1 : -1;
      const rows = [...body.rows].map((row, number) => ({ row, number, value: valueOf(row.cells[place]) }));
      rows.sort((a, b) => compare(a.value, b.value, sign) || a.number - b.number);
      body.append(...rows.map((each) => each.row));
    });
  });
}

function valueOf(cell) {
  if (cell.classList.contains("word")) return cell.textContent;
  const text = cell.dataset.value;
  return text === undefined || text === "" || text === "nan" ? null : Number(text.replace("inf", "Infinity"));
}

function compare(a, b, sign) {
  if (a === null || b === null) return (a === null) - (b === null);
  if (typeof a === "number" && typeof b === "number") return sign * (a < b ? -1 : a > b ? 1 : 0);
  return sign * String(a).localeCompare(String(b), "en", { numeric: true });
}

// Figures: the text of the nearest point within reach of the mouse.
const REACH = 28; // pixels

for (const figure of document.querySelectorAll("figure")) {
  const points = JSON.parse(figure.querySelector("script").textContent);
  const svg = figure.querySelector("svg");
  const tip = figure.querySelector(".tip");
  const ring = figure.querySelector(".ring");
  figure.addEventListener("mousemove", (event) => {
    const box = svg.getBoundingClientRect();
    let best = null;
    let nearest = REACH;
    for (const point of points) {
      const right = box.left + point.x * box.width;
      const down = box.top + point.y * box.height;
      const distance = Math.hypot(right - event.clientX, down - event.clientY);
      if (distance < nearest) [best, nearest] = [{ point, right, down }, distance];
    }
    tip.hidden = ring.hidden = best === null;
    if (best === null) return;
    const frame = figure.getBoundingClientRect();
    const [x, y] = [best.right - frame.left - figure.clientLeft + figure.scrollLeft, best.down - frame.top - figure.clientTop];
    tip.textContent = best.point.text;
    const left = x + 14 + tip.offsetWidth > frame.width ? x - 14 - tip.offsetWidth : x + 14;
    Object.assign(tip.style, { left: `${Math.max(4, left)}px`, top: `${Math.max(4, y - tip.offsetHeight - 6)}px` });
    Object.assign(ring.style, { left: `${x}px`, top: `${y}px` });
  });
  figure.addEventListener("mouseleave", () => {
    tip.hidden = ring.hidden = true;
  });
}
