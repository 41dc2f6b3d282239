"use strict";
for (const table of document.querySelectorAll("table[data-sorts]")) {
  const body = table.tBodies[0], heads = [...table.tHead.rows[0].cells];
  const key = (row, column) => row.cells[column].dataset.value ?? row.cells[column].textContent.trim();
  const sort = (column, sign) => {
    const isText = heads[column].classList.contains("text");
    const rows = [...body.rows].sort((a, b) => {
      const [p, q] = [key(a, column), key(b, column)];
      if (p === "" || q === "") return (p === "") - (q === "");
      return sign * (isText ? p.localeCompare(q) : p - q);
    });
    body.append(...rows);
    heads.forEach((head, i) => i === column ? head.setAttribute("aria-sort", sign > 0 ? "ascending" : "descending") : head.removeAttribute("aria-sort"));
  };
  heads.forEach((head, column) => head.querySelector("button")?.addEventListener("click", () => {
    const now = head.getAttribute("aria-sort"), first = head.classList.contains("text") ? 1 : -1;
    sort(column, now === null ? first : now === "ascending" ? -1 : 1);
  }));
}
const short = value => value !== 0 && Math.abs(value) < 0.001 ? value.toExponential(2) : Number(value.toPrecision(4)).toLocaleString("en", {maximumFractionDigits: 4});
for (const figure of document.querySelectorAll("figure.chart")) {
  const svg = figure.querySelector("svg"), out = figure.querySelector(".readout"), cursor = svg.querySelector(".cursor");
  const [x0, x1, y0, y1, left, right, top, bottom] = svg.dataset.frame.split(" ").map(Number);
  const lines = [...svg.querySelectorAll("polyline")];
  svg.addEventListener("pointermove", event => {
    const box = svg.getBoundingClientRect(), at = (event.clientX - box.left) / box.width * svg.viewBox.baseVal.width;
    const found = lines.map(line => ({line, point: [...line.points].reduce((a, b) => Math.abs(b.x - at) < Math.abs(a.x - at) ? b : a)}));
    const x = found.reduce((a, b) => Math.abs(b.point.x - at) < Math.abs(a.point.x - at) ? b : a).point.x;
    cursor.setAttribute("x1", x); cursor.setAttribute("x2", x); cursor.style.visibility = "visible";
    const words = found.map(({line, point}) => `${line.dataset.label} ${short(y0 + (y1 - y0) * (bottom - point.y) / (bottom - top))}${svg.dataset.unit}`);
    out.textContent = `step ${Math.round(x0 + (x1 - x0) * (x - left) / (right - left)).toLocaleString("en")}: ${words.join(" · ")}`;
  });
  svg.addEventListener("pointerleave", () => { cursor.style.visibility = "hidden"; out.textContent = ""; });
}
const links = new Map([...document.querySelectorAll("nav a")].map(link => [link.hash.slice(1), link]));
const watch = new IntersectionObserver(entries => {
  for (const entry of entries) if (entry.isIntersecting) {
    links.forEach(link => link.removeAttribute("aria-current"));
    links.get(entry.target.id)?.setAttribute("aria-current", "true");
  }
}, {rootMargin: "-10% 0px -75% 0px"});
document.querySelectorAll("section[id]").forEach(section => watch.observe(section));
