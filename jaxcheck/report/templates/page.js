"use strict";
document.documentElement.classList.add("js");
(function () {
  const FIRST = 200;  // rows that are laid out before somebody asks for all

  function key(row, column) {
    const cell = row.cells[column];
    const value = cell.dataset.v === undefined ? cell.textContent.trim() : cell.dataset.v;
    const number = value === "" ? NaN : Number(value);
    return Number.isNaN(number) ? value : number;
  }

  // Numbers before words; what is unknown last, in both orders.
  function compare(a, b, sign) {
    if (a === "" || b === "") return (a === "") - (b === "");
    if (typeof a !== typeof b) return typeof a === "number" ? -1 : 1;
    return sign * (typeof a === "number" ? a - b : a.localeCompare(b, undefined, {numeric: true}));
  }

  function table(box) {
    const body = box.querySelector("tbody"), rows = Array.from(body.rows), heads = Array.from(box.querySelectorAll("thead th"));
    const search = box.querySelector("input[type=search]"), chips = Array.from(box.querySelectorAll(".chip"));
    const shown = box.querySelector(".shown"), more = box.querySelector(".more");
    let most = FIRST;

    function filter() {
      const words = search ? search.value.toLowerCase().split(/\s+/).filter(Boolean) : [];
      const wanted = chips.filter(chip => chip.getAttribute("aria-pressed") === "true").map(chip => chip.dataset.verdict);
      let fit = 0;
      for (const row of Array.from(body.rows)) {
        const text = (row.dataset.name || row.textContent).toLowerCase();
        const fits = words.every(word => text.includes(word)) && (!wanted.length || wanted.includes(row.dataset.verdict));
        fit += fits;
        row.hidden = !fits || fit > most;
      }
      const visible = Math.min(fit, most);
      if (shown) shown.textContent = visible === rows.length ? "" : visible.toLocaleString("en") + " of " + rows.length.toLocaleString("en") + " shown";
      if (more) {
        more.hidden = fit <= most;
        more.querySelector("button").textContent = "Show all " + fit.toLocaleString("en");
      }
    }

    heads.forEach((head, column) => {
      const button = head.querySelector("button");
      if (!button) return;
      button.addEventListener("click", () => {
        const before = head.getAttribute("aria-sort");
        const first = head.dataset.first || "ascending", other = first === "ascending" ? "descending" : "ascending";
        const order = before === first ? other : first;
        heads.forEach(one => one.removeAttribute("aria-sort"));
        head.setAttribute("aria-sort", order);
        const sign = order === "ascending" ? 1 : -1;
        const keyed = rows.map((row, place) => [key(row, column), place, row]);
        keyed.sort((a, b) => compare(a[0], b[0], sign) || a[1] - b[1]);
        body.append(...keyed.map(one => one[2]));
        filter();
      });
    });
    if (search) search.addEventListener("input", filter);
    chips.forEach(chip => chip.addEventListener("click", () => {
      chip.setAttribute("aria-pressed", String(chip.getAttribute("aria-pressed") !== "true"));
      filter();
    }));
    if (more) more.querySelector("button").addEventListener("click", () => { most = Infinity; filter(); });
    filter();
  }

  document.querySelectorAll("[data-table]").forEach(table);

  // What a link points to is opened.
  function open() {
    const target = location.hash.length > 1 && document.getElementById(decodeURIComponent(location.hash.slice(1)));
    for (let one = target; one; one = one.parentElement) if (one.tagName === "DETAILS") one.open = true;
    if (target) target.scrollIntoView();
  }
  addEventListener("hashchange", open);
  open();

  document.querySelectorAll("[data-fold]").forEach(button => {
    const all = Array.from(button.closest(".part").querySelectorAll("details.leaf"));
    const folded = () => all.some(one => !one.open);
    const say = () => { button.textContent = folded() ? "Unfold all" : "Fold all"; };
    button.addEventListener("click", () => { const open = folded(); all.forEach(one => { one.open = open; }); say(); });
    all.forEach(one => one.addEventListener("toggle", say));
    say();
  });

  document.querySelectorAll(".again").forEach(box => {
    const button = box.querySelector("button");
    if (!button || !navigator.clipboard) { if (button) button.hidden = true; return; }
    button.addEventListener("click", () => navigator.clipboard.writeText(box.querySelector("code").textContent).then(() => {
      button.textContent = "Copied";
      setTimeout(() => { button.textContent = "Copy"; }, 1500);
    }, () => {}));
  });

  // On paper nothing is folded but what repeats itself.
  addEventListener("beforeprint", () => document.querySelectorAll("details:not(.further)").forEach(one => {
    if (!one.open) { one.open = true; one.dataset.closed = ""; }
  }));
  addEventListener("afterprint", () => document.querySelectorAll("details[data-closed]").forEach(one => {
    one.open = false;
    delete one.dataset.closed;
  }));
})();
