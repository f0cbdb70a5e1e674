/* The pictures of the map, as SVG drawn at the size at which they are shown. */
(function () {
  "use strict";

  const NAMESPACE = "http://www.w3.org/2000/svg";
  const LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ";
  const TEXT = 13; // pixels

  function svg(tag, attributes = {}, ...children) {
    const node = document.createElementNS(NAMESPACE, tag);
    for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
    node.append(...children);
    return node;
  }

  function label(x, y, text, attributes = {}) {
    return svg("text", { x, y, "font-size": TEXT, ...attributes }, text);
  }

  function exponent(fraction) {
    return String(fraction).replace("-", "\u2212");
  }

  /* --- markers, the same as in the book's figures -------------------------------- */

  function polygon(corners, turn = 0, radii = [1]) {
    return Array.from({ length: corners }, (_, k) => {
      const angle = ((k + turn) / corners) * 2 * Math.PI - Math.PI / 2;
      const radius = radii[k % radii.length];
      return [radius * Math.cos(angle), radius * Math.sin(angle)];
    });
  }

  const T = 0.36;
  const PLUS = [
    ...[[-T, -1], [T, -1], [T, -T], [1, -T], [1, T], [T, T]],
    ...[[T, 1], [-T, 1], [-T, T], [-1, T], [-1, -T], [-T, -T]],
  ];

  function turned(points, angle) {
    const [c, s] = [Math.cos(angle), Math.sin(angle)];
    return points.map(([x, y]) => [c * x - s * y, s * x + c * y]);
  }

  const SHAPES = {
    "^": polygon(3),
    v: polygon(3, 1.5),
    "<": polygon(3, 2.25),
    ">": polygon(3, 0.75),
    s: polygon(4, 0.5),
    D: polygon(4),
    p: polygon(5),
    h: polygon(6),
    H: polygon(6, 0.5),
    "*": polygon(10, 0, [1.15, 0.5]),
    P: PLUS,
    X: turned(PLUS, Math.PI / 4),
  };

  /* A parametrization's marker, in its colour and with a rim that shows on any page. */
  function marker(entry, x, y, size = 7) {
    const look = { class: "wl-marker", fill: entry.colour };
    if (!(entry.marker in SHAPES)) return svg("circle", { cx: x, cy: y, r: size, ...look });
    const corner = ([dx, dy]) => `${(x + size * dx).toFixed(2)},${(y + size * dy).toFixed(2)}`;
    return svg("polygon", { points: SHAPES[entry.marker].map(corner).join(" "), ...look });
  }

  /* The marker alone, to stand in a line of text. */
  function swatch(entry) {
    const box = { width: 18, height: 18, viewBox: "0 0 18 18", "aria-hidden": "true" };
    return svg("svg", { class: "wl-swatch", ...box }, marker(entry, 9, 9, 6.5));
  }

  function here(x, y) {
    const cross = `M${x - 17} ${y}h8M${x + 9} ${y}h8M${x} ${y - 17}v8M${x} ${y + 9}v8`;
    const ring = svg("circle", { cx: x, cy: y, r: 12 });
    return svg("g", { class: "wl-here" }, ring, svg("path", { d: cross }));
  }

  /* --- axes ---------------------------------------------------------------------- */

  function canvas(width, height, title) {
    const box = { width, height, viewBox: `0 0 ${width} ${height}` };
    return svg("svg", { ...box, role: "img", "aria-label": title, class: "wl-picture" });
  }

  /* From numbers to pixels, with the ends of the axis in halves. */
  function axis(low, high, from, to) {
    const place = (value) => from + ((value - low) / (high - low)) * (to - from);
    const every = Math.abs(to - from) / (high - low) < 56 ? 1 : 0.5;
    const ticks = [];
    for (let t = Math.ceil(low / every) * every; t <= high; t += every) ticks.push(t);
    const clamp = (value) => Math.min(Math.max(value, low), high);
    return { place: (value) => place(clamp(value)), ticks, low, high };
  }

  function half(value) {
    const twice = Math.round(2 * value);
    const text = twice % 2 === 0 ? String(twice / 2) : `${twice}/2`;
    return text.replace("-", "\u2212");
  }

  function grid(picture, x, y, box) {
    for (const t of x.ticks) {
      const at = x.place(t);
      const line = { x1: at, x2: at, y1: box.top, y2: box.bottom, class: "wl-grid" };
      const text = { "text-anchor": "middle" };
      picture.append(svg("line", line), label(at, box.bottom + 18, half(t), text));
    }
    for (const t of y.ticks) {
      const at = y.place(t);
      const line = { x1: box.left, x2: box.right, y1: at, y2: at, class: "wl-grid" };
      const text = { "text-anchor": "end" };
      picture.append(svg("line", line), label(box.left - 7, at + 4, half(t), text));
    }
  }

  function titles(picture, box, across, up) {
    const middle = { "text-anchor": "middle" };
    picture.append(label((box.left + box.right) / 2, box.bottom + 40, across, middle));
    const [x, y] = [13, (box.top + box.bottom) / 2];
    const turn = { ...middle, transform: `rotate(-90 ${x} ${y})` };
    picture.append(label(x, y, up, turn));
  }

  function hatching() {
    const tile = { width: 8, height: 8, patternUnits: "userSpaceOnUse" };
    const line = svg("path", { d: "M-2 10L10 -2M-2 2L2 -2M6 10L10 6", class: "wl-hatch" });
    const dot = svg("circle", { cx: 4, cy: 4, r: 1.1, class: "wl-dot" });
    return svg(
      "defs",
      {},
      svg("pattern", { id: "wl-unstable", ...tile }, line),
      svg("pattern", { id: "wl-trivial", ...tile }, dot),
    );
  }

  function area(x, y, width, height, regime) {
    const place = { x, y, width, height };
    const group = svg("g", { class: `wl-area wl-${regime.replace(" ", "-")}` });
    group.append(svg("rect", { ...place, class: "wl-fill" }));
    if (regime === "unstable" || regime === "trivial") {
      group.append(svg("rect", { ...place, fill: `url(#wl-${regime})` }));
    }
    return group;
  }

  /* --- where the parametrizations sit --------------------------------------------- */

  /* Tables at the same place, from the right to the left. */
  function places(items) {
    const found = new Map();
    for (const item of items) {
      const key = `${item.verdict.output} ${item.verdict.r}`;
      found.set(key, [...(found.get(key) || []), item]);
    }
    const first = (group) => group[0].verdict;
    return [...found.values()].sort(
      (p, q) =>
        first(p).r.number() - first(q).r.number() ||
        first(q).output.number() - first(p).output.number(),
    );
  }

  function bounds(values, low, high) {
    const inside = values.map((v) => Math.min(Math.max(v, -4), 4));
    const least = Math.floor(2 * Math.min(low, ...inside)) / 2;
    return [least, Math.ceil(2 * Math.max(high, ...inside)) / 2];
  }

  /* The markers of a place hang below it, with its letter beside it. */
  function members(picture, group, letter, x, y, columns) {
    picture.append(svg("circle", { cx: x, cy: y, r: 3, class: "wl-place" }));
    group.forEach(({ entry }, k) => {
      const row = Math.floor(k / columns);
      const across = Math.min(group.length - columns * row, columns);
      const dx = 17 * ((k % columns) - (across - 1) / 2);
      picture.append(marker(entry, x + dx, y + 25 + 17 * row, 7));
    });
    picture.append(label(x + 12, y - 9, letter, { class: "wl-letter" }));
  }

  /* The plane of the initial output and of the movement of features. */
  function plane(width, items, current) {
    const all = [...items.map((item) => item.verdict), current];
    const across = bounds(all.map((v) => v.output.number()), -1, 0.5);
    // What blows up says little by its size: from 1 on it stands at the edge.
    const upward = bounds(all.map((v) => Math.min(-v.r.number(), 1)), -1, 0.5);
    // Below each place there is room for its markers.
    const [low, high] = [upward[0] - 0.5, upward[1] + 0.25];
    const height = 74 + 104 * (high - low);
    const box = { left: 60, right: width - 14, top: 26, bottom: height - 48 };
    const x = axis(across[0] - 0.25, across[1] + 0.25, box.left, box.right);
    const y = axis(low, high, box.bottom, box.top);
    const groups = places(items);
    const title = "Initial output against movement of features; the list below says the same.";
    const picture = canvas(width, height, title);
    const zero = y.place(0);
    picture.append(hatching());
    picture.append(area(box.left, box.top, box.right - box.left, zero - box.top, "unstable"));
    grid(picture, x, y, box);
    const line = { x1: box.left, x2: box.right, y1: zero, y2: zero, class: "wl-rich-line" };
    picture.append(svg("line", line));
    titles(picture, box, "exponent of f at initialisation", "exponent of \u0394h: \u2212r");
    const columns = x.place(0.5) - x.place(0) < 56 ? 2 : 3;
    groups.forEach((group, k) => {
      const { output, r } = group[0].verdict;
      const at = [x.place(output.number()), y.place(-r.number())];
      members(picture, group, LETTERS[k], ...at, columns);
    });
    picture.append(here(x.place(current.output.number()), y.place(-current.r.number())));
    return { picture, groups: groups.map((group, k) => ({ letter: LETTERS[k], group })) };
  }

  /* --- a slice through the space of tables ---------------------------------------- */

  /* Where a word of so many cells fits best: a long enough run far from other kinds. */
  function roomiest(cells, regime, wanted) {
    let best = null;
    cells.forEach((row, j) => {
      let from = 0;
      for (let i = 0; i <= row.length; i += 1) {
        if (i < row.length && row[i] === regime) continue;
        const length = i - from;
        const middle = from + (length - 1) / 2;
        const same = (k) => cells[k] && cells[k][Math.floor(middle)] === regime;
        let depth = 0;
        while (same(j - depth - 1) && same(j + depth + 1)) depth += 1;
        const score = 100 * Math.min(length, wanted) + depth;
        if (length > 0 && (!best || score > best.score)) best = { i: middle, j, length, score };
        from = i + 1;
      }
    });
    return best;
  }

  /* xs, ys: values of the two axes (numbers); cells[j][i]: regimes; marks: named tables. */
  function slice(width, { xs, ys, cells, across, up, marks, point, choose }) {
    const box = { left: 60, right: width - 14, top: 14 };
    const side = (box.right - box.left) / xs.length;
    const tall = Math.min(side, 26);
    box.bottom = box.top + tall * ys.length;
    const height = box.bottom + 48;
    const picture = canvas(width, height, `Kind of limit over ${across} and ${up}.`);
    picture.append(hatching());
    const step = 0.25 / 2;
    const x = axis(xs[0] - step, xs[xs.length - 1] + step, box.left, box.right);
    const y = axis(ys[0] - step, ys[ys.length - 1] + step, box.bottom, box.top);
    cells.forEach((row, j) => {
      row.forEach((regime, i) => {
        const corner = [box.left + side * i, box.bottom - tall * (j + 1)];
        const cell = area(...corner, side, tall, regime);
        cell.append(svg("title", {}, `${across} ${xs[i]}, ${up} ${ys[j]}: ${regime}`));
        cell.classList.add("wl-cell");
        cell.addEventListener("click", () => choose(i, j));
        picture.append(cell);
      });
    });
    grid(picture, x, y, box);
    for (const regime of new Set(cells.flat())) {
      const wanted = (8 * regime.length) / side;
      const { i, j, length } = roomiest(cells, regime, wanted);
      const word = length >= wanted ? regime : regime[0].toUpperCase();
      const middle = box.left + side * (i + 0.5);
      const place = { "text-anchor": "middle", class: "wl-word" };
      picture.append(label(middle, box.bottom - tall * (j + 0.5) + 5, word, place));
    }
    titles(picture, box, across, up);
    for (const mark of [...marks].reverse()) {
      const [px, py] = [x.place(mark.x), y.place(mark.y)];
      picture.append(marker(mark.entry, px, py));
    }
    for (const { names, x: mx, y: my } of together(marks)) {
      const right = x.place(mx) > (box.left + box.right) / 2;
      const place = { "text-anchor": right ? "end" : "start", class: "wl-word" };
      const px = x.place(mx) + (right ? -20 : 20);
      picture.append(label(px, y.place(my) - 14, names, place));
    }
    picture.append(here(x.place(point.x), y.place(point.y)));
    return picture;
  }

  function together(marks) {
    const found = new Map();
    for (const { entry, x, y } of marks) {
      const key = `${x} ${y}`;
      const names = found.has(key) ? `${found.get(key).names}, ${entry.label}` : entry.label;
      found.set(key, { names, x, y });
    }
    return [...found.values()];
  }

  /* --- layer by layer -------------------------------------------------------------- */

  function column(picture, name, x, y, start, change) {
    const [from, to] = [start, change].map((value) => y.place(value.number()));
    picture.append(svg("line", { x1: x, x2: x, y1: from, y2: to, class: "wl-stem" }));
    picture.append(svg("circle", { cx: x, cy: from, r: 8, class: "wl-start" }));
    picture.append(svg("circle", { cx: x, cy: to, r: 4.5, class: "wl-change" }));
    const text = svg("tspan", { "font-style": "italic" }, name[0]);
    const node = label(x, y.place(y.low) + 19, "", { "text-anchor": "middle" });
    node.append(text);
    if (name[1]) node.append(svg("tspan", { dy: -5, "font-size": 10 }, name[1]));
    picture.append(node);
  }

  /* Sizes of h^1 ... h^L and f at the start (rings) and of their changes (discs). */
  function strip(width, verdict) {
    const height = 250;
    const starts = [...verdict.preactivation, verdict.output];
    const changes = [...verdict.feature_change, verdict.output_change];
    const box = { left: 60, right: width - 14, top: 12, bottom: height - 30 };
    const [low, high] = bounds([...starts, ...changes].map((e) => e.number()), -1, 0.5);
    const y = axis(low - 0.25, high + 0.25, box.bottom, box.top);
    const picture = canvas(width, height, "Exponents by layer; the table above has them too.");
    grid(picture, { ticks: [] }, y, box);
    const zero = { x1: box.left, x2: box.right, y1: y.place(0), y2: y.place(0) };
    picture.append(svg("line", { ...zero, class: "wl-zero" }));
    const step = (box.right - box.left) / starts.length;
    starts.forEach((start, k) => {
      const name = k < starts.length - 1 ? ["h", String(k + 1)] : ["f", ""];
      column(picture, name, box.left + step * (k + 0.5), y, start, changes[k]);
    });
    const [px, py] = [13, (box.top + box.bottom) / 2];
    const turn = { "text-anchor": "middle", transform: `rotate(-90 ${px} ${py})` };
    picture.append(label(px, py, "exponent", turn));
    return picture;
  }

  globalThis.widthlabPictures = { swatch, plane, slice, strip, exponent };
})();
