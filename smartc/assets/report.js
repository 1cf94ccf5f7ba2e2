"use strict";
(() => {
  const table = document.getElementById("layers");
  const body = table.tBodies[0];
  const original = [...body.rows];
  const heads = [...table.querySelectorAll("thead th[data-column]")];

  const key = (row, column) => {
    const cell = row.cells[column];
    return cell.dataset.v === undefined ? cell.textContent.toLowerCase() : Number(cell.dataset.v);
  };
  const compare = (a, b) => (a < b ? -1 : a > b ? 1 : 0);

  // The third click gives the order of execution back.
  const sort = (head) => {
    const column = Number(head.dataset.column);
    const first = head.classList.contains("n") ? "descending" : "ascending";
    const second = first === "ascending" ? "descending" : "ascending";
    const next = { null: first, [first]: second, [second]: null }[head.getAttribute("aria-sort")];
    heads.forEach((other) => other.removeAttribute("aria-sort"));
    const rows = [...original];
    if (next) {
      head.setAttribute("aria-sort", next);
      const sign = next === "ascending" ? 1 : -1;
      rows.sort((a, b) => sign * compare(key(a, column), key(b, column)));
    }
    body.append(...rows);
  };
  heads.forEach((head) => head.firstElementChild.addEventListener("click", () => sort(head)));

  const find = document.getElementById("find");
  const found = document.getElementById("found");
  find.addEventListener("input", () => {
    const words = find.value.toLowerCase().split(/\s+/);
    original.forEach((row) => {
      const text = row.textContent.toLowerCase();
      row.hidden = !words.every((word) => text.includes(word));
    });
    const count = original.filter((row) => !row.hidden).length;
    found.textContent = find.value.trim() ? `${count} of ${original.length} layers` : "";
  });
})();
