"use strict";
// Without this script the page is whole: tables are shown in full, unsorted controls are absent.
(function () {
  const root = document.documentElement;
  root.classList.add("js");
  const figures = new Intl.NumberFormat("en-GB");
  const collator = new Intl.Collator("en", { numeric: true, sensitivity: "base" });

  function theme() {
    const button = document.getElementById("theme");
    const system = window.matchMedia("(prefers-color-scheme: dark)");
    const dark = () => (root.dataset.theme || (system.matches ? "dark" : "light")) === "dark";
    const label = () => {
      button.textContent = dark() ? "Light colours" : "Dark colours";
    };
    button.addEventListener("click", () => {
      root.dataset.theme = dark() ? "light" : "dark";
      label();
    });
    system.addEventListener("change", label);
    button.hidden = false;
    label();
  }

  function key(row, at, kind) {
    const cell = row.cells[at];
    const value = cell.dataset.sort === undefined ? cell.textContent.trim() : cell.dataset.sort;
    return kind === "number" ? Number(value) : value;
  }

  function compare(kind) {
    if (kind === "number") return (one, other) => one - other;
    if (kind === "time") return (one, other) => (one < other ? -1 : one > other ? 1 : 0);
    return collator.compare;
  }

  function sorted(rows, at, kind, descending) {
    const by = compare(kind);
    const keyed = rows.map((row) => [key(row, at, kind), row]);
    keyed.sort((one, other) => (descending ? by(other[0], one[0]) : by(one[0], other[0])));
    return keyed.map((pair) => pair[1]);
  }

  function enhance(frame) {
    const table = frame.querySelector("table");
    const body = table.tBodies[0];
    const heads = Array.from(table.tHead.rows[0].cells);
    const input = frame.querySelector("input");
    const count = frame.querySelector(".count");
    const more = frame.querySelector(".more");
    const fold = Number(frame.dataset.fold);
    const titles = heads.map((head) => head.textContent);
    let rows = Array.from(body.rows);
    let folded = rows.length > fold;
    const texts = new Map(rows.map((row) => [row, row.textContent.toLowerCase()]));

    function show() {
      const words = input.value.toLowerCase().split(/\s+/).filter(Boolean);
      const found = rows.filter((row) => words.every((word) => texts.get(row).includes(word)));
      const kept = new Set(found);
      const near = new Set(folded ? found.slice(0, fold) : found);
      for (const row of rows) {
        row.hidden = !kept.has(row);
        row.classList.toggle("folded", kept.has(row) && !near.has(row));
      }
      const rest = found.length - near.size;
      const all = figures.format(rows.length) + (rows.length === 1 ? " row" : " rows");
      count.textContent = words.length
        ? "Showing " + figures.format(near.size) + " of " + all
        : rest ? "Showing the first " + figures.format(near.size) + " of " + all : all;
      if (rest) count.textContent += ", " + figures.format(rest) + " folded";
      count.classList.toggle("onscreen", !words.length);
      more.hidden = !rest;
      more.firstElementChild.textContent = "Show all " + figures.format(found.length) + " rows";
    }

    function sort(head) {
      const at = heads.indexOf(head);
      const before = head.getAttribute("aria-sort");
      const kind = head.dataset.kind;
      const descending = before ? before === "ascending" : kind !== "text";
      heads.forEach((each) => each.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", descending ? "descending" : "ascending");
      rows = sorted(rows, at, kind, descending);
      body.append(...rows);
      show();
    }

    // A head with a button in it is not repeated on the next sheet of paper: there it is text.
    for (const head of rows.length < 2 ? [] : heads) {
      const title = document.createElement("span");
      title.className = "paper";
      title.append(...head.childNodes);
      const button = document.createElement("button");
      button.type = "button";
      button.textContent = title.textContent;
      button.addEventListener("click", () => sort(head));
      head.append(title, button);
    }
    // On narrow pages rows are drawn as cards, which takes a table's own roles away.
    table.setAttribute("role", "table");
    for (const group of [table.tHead, body]) group.setAttribute("role", "rowgroup");
    for (const row of table.rows) row.setAttribute("role", "row");
    for (const head of heads) head.setAttribute("role", "columnheader");
    for (const row of rows) {
      Array.from(row.cells).forEach((cell, at) => {
        cell.setAttribute("role", at ? "cell" : "rowheader");
        cell.dataset.label = titles[at];
      });
    }
    input.addEventListener("input", show);
    more.firstElementChild.addEventListener("click", () => {
      folded = false;
      show();
      input.focus();
    });
    frame.querySelector(".tools").hidden = rows.length < 2;
    show();
  }

  theme();
  document.querySelectorAll(".table").forEach(enhance);
})();
