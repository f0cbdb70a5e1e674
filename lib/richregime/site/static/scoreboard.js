/* The filter of the scoreboard. Without it every row is there to read.
 *
 * What is chosen stands in the address (?words=...&chapter=...&whose=...&verdict=...), so
 * that it can be shared. A row that the address names (#claim-...) is shown whatever the
 * filter says.
 */
(() => {
  "use strict";

  const FIELDS = ["words", "chapter", "whose", "tier", "verdict"];

  /* Text as it is compared: small letters, Greek ones, accents and dashes made plain. */
  function fold(text) {
    const plain = text.normalize("NFKD").toLowerCase().replace(/\p{M}/gu, "");
    return plain.replace(/[’‘]/g, "'").replace(/[−–]/g, "-").replace(/\s+/g, " ");
  }

  /* The filter that an address asks for; a choice that does not exist is none. */
  function read(search, choices) {
    const asked = new URLSearchParams(search);
    const one = (field) => {
      const value = asked.get(field) || "";
      return field === "words" || choices[field].includes(value) ? value : "";
    };
    return Object.fromEntries(FIELDS.map((field) => [field, one(field)]));
  }

  /* The address's part for a filter; nothing for one that lets all rows pass. */
  function write(filter) {
    const set = FIELDS.filter((field) => filter[field].trim());
    const asked = new URLSearchParams(set.map((field) => [field, filter[field].trim()]));
    return set.length ? `?${asked}` : "";
  }

  /* Whether a row passes: every choice is its own, and it has every word. */
  function passes(row, filter) {
    const words = fold(filter.words).split(" ").filter(Boolean);
    const chosen = FIELDS.slice(1).filter((field) => filter[field]);
    const same = chosen.every((field) => row[field] === filter[field]);
    return same && words.every((word) => row.text.includes(word));
  }

  /* What is announced. */
  function say(shown, total) {
    if (shown) return `${shown} of ${total} rows`;
    return `None of ${total} rows fits. Take a word away, or reset the filter.`;
  }

  const api = { FIELDS, fold, read, write, passes, say };
  if (typeof module !== "undefined") module.exports = api;
  if (typeof document === "undefined") return;

  const sections = [...document.querySelectorAll("section.wl-chapter")];
  if (!sections.length) return;

  const last = (node, prefix) =>
    [...node.classList].find((name) => name.startsWith(prefix)).slice(prefix.length);

  const rows = sections.flatMap((section) =>
    [...section.querySelectorAll(".wl-scoreboard tbody tr")].map((node) => ({
      node,
      section,
      id: node.querySelector("[id]").id,
      text: fold([...node.children].map((cell) => cell.textContent).join(" ")),
      chapter: section.id.replace("scoreboard-", ""),
      whose: last(node, "wl-of-"),
      tier: last(node, "wl-in-"),
      verdict: last(node, "wl-is-"),
      badge: node.querySelector(".wl-badge").textContent,
    })),
  );

  /* Choices in the order of the rows, each with what a reader calls it. */
  const named = {
    chapter: (row) => row.section.querySelector("h2").firstChild.textContent,
    whose: (row) => (row.whose === "ours" ? "ours" : "the paper's"),
    tier: (row) => row.tier,
    verdict: (row) => row.badge,
  };
  const choices = Object.fromEntries(
    FIELDS.slice(1).map((field) => [
      field,
      new Map(rows.map((row) => [row[field], named[field](row)])),
    ]),
  );
  const known = Object.fromEntries(
    Object.entries(choices).map(([field, map]) => [field, [...map.keys()]]),
  );

  function make(tag, settings = {}, ...children) {
    const node = Object.assign(document.createElement(tag), settings);
    node.append(...children);
    return node;
  }

  function control(field) {
    const name = field[0].toUpperCase() + field.slice(1);
    if (field === "words") {
      const box = make("input", { type: "search", name: field, autocomplete: "off" });
      return make("label", {}, make("span", { textContent: name }), box);
    }
    const all = make("option", { value: "", textContent: "all" });
    const options = [...choices[field]].map(([value, textContent]) =>
      make("option", { value, textContent }),
    );
    const list = make("select", { name: field }, all, ...options);
    return make("label", {}, make("span", { textContent: name }), list);
  }

  const status = make("p", { className: "wl-count" });
  status.setAttribute("role", "status");
  const reset = make("button", { type: "button", textContent: "Reset" });
  const form = make("form", { className: "wl-filter" });
  form.setAttribute("role", "search");
  form.setAttribute("aria-label", "Filter the scoreboard");
  form.append(...FIELDS.map(control), reset, status);

  const linked = () => decodeURIComponent(location.hash.slice(1));
  const chosen = () =>
    Object.fromEntries(FIELDS.map((field) => [field, form.elements[field].value]));

  function show(filter) {
    const pinned = linked();
    for (const row of rows) row.node.hidden = row.id !== pinned && !passes(row, filter);
    for (const section of sections) {
      section.hidden = rows.every((row) => row.section !== section || row.node.hidden);
    }
    status.textContent = say(rows.filter((row) => !row.node.hidden).length, rows.length);
    reset.disabled = !write(filter);
  }

  /* The address's filter, in the form and in the rows; then to the row it names. */
  function follow() {
    const filter = read(location.search, known);
    for (const field of FIELDS) form.elements[field].value = filter[field];
    show(filter);
    const row = rows.find(({ id }) => id === linked());
    if (row) row.node.scrollIntoView({ block: "center" });
  }

  function choose() {
    const filter = chosen();
    history.replaceState(null, "", location.pathname + write(filter));
    show(filter);
  }

  form.addEventListener("input", choose);
  form.addEventListener("submit", (event) => event.preventDefault());
  reset.addEventListener("click", () => {
    form.reset();
    choose();
    form.elements.words.focus();
  });
  addEventListener("hashchange", follow);
  addEventListener("popstate", follow);
  sections[0].before(form);
  follow();
})();
