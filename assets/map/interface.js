/* The map of parametrizations: controls, verdict and permalink. */
(function () {
  "use strict";

  const regimes = globalThis.widthlabRegimes;
  const pictures = globalThis.widthlabPictures;
  const catalogue = globalThis.widthlabParametrizations;
  const root = document.getElementById("parametrization-map");
  if (!root || !regimes || !pictures || !catalogue) return;

  const { ROLES, BIASES, Fraction, parse } = regimes;
  const STEP = new Fraction(1, 4);
  const LARGEST = 8; // exponents beyond it are misprints
  const FINEST = 24; // and so are denominators
  const DEPTH = { least: 1, most: 6 };
  const START = "mup";
  const ROLE_NAMES = {
    input: ["Input matrix", "<i>W</i><sup>1</sup>, finite to <i>n</i>"],
    hidden: ["Hidden matrices", "<i>W</i><sup>2</sup> to <i>W</i><sup><i>L</i></sup>, <i>n</i> to <i>n</i>"],
    output: ["Output matrix", "<i>W</i><sup><i>L</i>+1</sup>, <i>n</i> to finite"],
  };
  const LETTERS = { a: "multiplier", b: "initial std", c: "learning rate" };
  const SIGNS = { unstable: "\u26A0", trivial: "\u25CB", kernel: "\u25A7", "feature learning": "\u25C6" };
  const AXES = ROLES.flatMap((role) => [
    { role, letter: "b", name: `${role}: a + b`, low: -0.5, high: 2 },
    { role, letter: "c", name: `${role}: 2a + c`, low: -2, high: 3 },
  ]);

  /* --- small tools ------------------------------------------------------------------ */

  function make(tag, attributes = {}, ...children) {
    const node = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) {
      if (name === "html") node.innerHTML = value;
      else if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
      else if (value !== null) node.setAttribute(name, value);
    }
    node.append(...children);
    return node;
  }

  const shown = pictures.exponent;
  const power = (fraction) => `<i>n</i><sup>${shown(fraction)}</sup>`;
  const h = (layer) => `<i>h</i><sup>${layer}</sup>`;
  const entryOf = (name) => catalogue.find((entry) => entry.name === name);

  function listed(parts) {
    if (parts.length < 2) return parts.join("");
    return `${parts.slice(0, -1).join(", ")} and ${parts[parts.length - 1]}`;
  }

  function capital(text) {
    return text[0].toUpperCase() + text.slice(1);
  }

  /* --- state ------------------------------------------------------------------------ */

  /* What a preset fixes besides (a, b, c), and how to leave it out. */
  const EXTRAS = {
    first: {
      has: (row) => row.c_first !== null,
      drop: (row) => ({ ...row, c_first: null }),
      python: "c_first=None",
    },
    mean: {
      has: (row) => parse(row.mean).p !== 0,
      drop: (row) => ({ ...row, mean: "0" }),
      python: "mean=F(0)",
    },
    retained: {
      has: (row) => row.retained === null || parse(row.retained).p !== 0,
      drop: (row) => ({ ...row, retained: "0" }),
      python: "retained=F(0)",
    },
  };

  function presetState(name, depth) {
    const entry = entryOf(name);
    const rows = {};
    for (const role of ROLES) {
      const { a, b, c, c_first: first } = entry.exponents[role];
      rows[role] = { a: parse(a), b: parse(b), c: parse(c), first: first && parse(first[0]) };
    }
    const deepest = entry.max_depth || DEPTH.most;
    return { preset: name, depth: Math.min(depth, deepest), rows, biases: entry.biases, off: [] };
  }

  /* The state as a table in the form of Parametrization.to_json. */
  function tableOf(state) {
    const entry = entryOf(state.preset);
    const exponents = {};
    for (const role of ROLES) {
      const { a, b, c, first } = state.rows[role];
      let row = { ...entry.exponents[role], a: String(a), b: String(b), c: String(c) };
      if (first) row.c_first = [String(first), ...row.c_first.slice(1)];
      for (const extra of state.off) row = EXTRAS[extra].drop(row);
      exponents[role] = row;
    }
    return { exponents, bias: entry.bias };
  }

  function extrasOf(name) {
    const rows = ROLES.map((role) => entryOf(name).exponents[role]);
    return Object.keys(EXTRAS).filter((extra) => rows.some(EXTRAS[extra].has));
  }

  function untouched(state) {
    const same = presetState(state.preset, state.depth);
    return hashOf(state) === hashOf(same);
  }

  function rowText(row) {
    return [row.a, row.b, row.c, ...(row.first ? [row.first] : [])].join(",");
  }

  function hashOf(state) {
    const same = presetState(state.preset, state.depth);
    const parts = [`p=${encodeURIComponent(state.preset)}`, `L=${state.depth}`];
    if (state.biases !== same.biases) parts.push(`biases=${state.biases}`);
    if (state.off.length > 0) parts.push(`off=${state.off.join(",")}`);
    for (const role of ROLES) {
      const text = rowText(state.rows[role]);
      if (text !== rowText(same.rows[role])) parts.push(`${role}=${text}`);
    }
    return `#${parts.join("&")}`;
  }

  /* Why a fraction cannot stand in the table; an empty text if it can. */
  function problem(text) {
    const fraction = parse(text);
    const typed = `\u201C${String(text).trim().slice(0, 20)}\u201D`;
    if (!fraction) return `${typed} is not a fraction. Write \u22121/2, 0.25 or 3, for example.`;
    if (Math.abs(fraction.number()) > LARGEST) {
      return `${typed} is out of range: exponents here lie between \u2212${LARGEST} and ${LARGEST}.`;
    }
    if (fraction.q > FINEST) return `${typed} has a denominator above ${FINEST}.`;
    return "";
  }

  function readRow(text, row) {
    const parts = text.split(",");
    if (parts.length !== (row.first ? 4 : 3) || parts.some(problem)) return null;
    const [a, b, c, first] = parts.map(parse);
    return { a, b, c, first: first || null };
  }

  /* The state of a permalink; null if it is none, or a damaged one. */
  function readHash(hash) {
    const given = new Map(new URLSearchParams(hash.replace(/^#/, "").replace(/\+/g, "%2B")));
    const depth = Number(given.get("L"));
    if (!entryOf(given.get("p")) || !Number.isInteger(depth)) return null;
    if (depth < DEPTH.least || depth > DEPTH.most) return null;
    const state = presetState(given.get("p"), depth);
    state.depth = depth;
    if (given.has("biases")) state.biases = given.get("biases");
    if (!BIASES.includes(state.biases)) return null;
    if (given.has("off")) state.off = given.get("off").split(",");
    if (state.off.some((extra) => !extrasOf(state.preset).includes(extra))) return null;
    for (const role of ROLES.filter((name) => given.has(name))) {
      state.rows[role] = readRow(given.get(role), state.rows[role]);
      if (!state.rows[role]) return null;
    }
    return state;
  }

  /* A row moved along its class: the same training. */
  function shifted(row, theta) {
    return {
      a: row.a.plus(theta),
      b: row.b.minus(theta),
      c: row.c.minus(theta.times(2)),
      first: row.first && row.first.minus(theta.times(2)),
    };
  }

  const GAUGES = {
    a: ["a = 0", "no multipliers", (row) => row.a.times(-1)],
    b: ["b = 0", "weights of order one", (row) => row.b],
    c: ["c = 0", "one learning rate", (row) => row.c.half()],
  };

  let state = readHash(window.location.hash) || presetState(START, 3);
  const axes = [1, 3]; // the learning rates of input and hidden matrices
  const parts = {};
  let pending = 0;

  /* --- controls --------------------------------------------------------------------- */

  function change(update, said = "") {
    update();
    window.history.replaceState(null, "", hashOf(state));
    render(said);
  }

  function presets() {
    const buttons = catalogue.map((entry) => {
      const pick = () => change(() => (state = presetState(entry.name, state.depth)));
      const title = { title: entry.source, "data-preset": entry.name };
      const button = make("button", { type: "button", onclick: pick, ...title });
      button.append(pictures.swatch(entry), entry.label);
      return button;
    });
    parts.presets = buttons;
    const legend = make("legend", {}, "Start from");
    return make("fieldset", { class: "wl-presets" }, legend, ...buttons);
  }

  function depthControl() {
    const range = { type: "range", min: DEPTH.least, max: DEPTH.most, step: 1, id: "wl-depth" };
    const move = () => change(() => (state.depth = Number(parts.depth.value)));
    parts.depth = make("input", { ...range, oninput: move });
    parts.depthShown = make("output", { for: "wl-depth" });
    const name = make("label", { for: "wl-depth", html: "Hidden layers <i>L</i>" });
    return make("div", { class: "wl-field" }, name, parts.depth, parts.depthShown);
  }

  function biasControl() {
    const names = { none: "none", input: "first layer", all: "all layers" };
    const options = BIASES.map((value) => make("option", { value }, names[value]));
    const pick = () => change(() => (state.biases = parts.biases.value));
    parts.biases = make("select", { id: "wl-biases", onchange: pick }, ...options);
    const name = make("label", { for: "wl-biases" }, "Biases");
    return make("div", { class: "wl-field" }, name, parts.biases);
  }

  function set(role, letter, text) {
    const field = parts.fields[role][letter];
    const wrong = problem(text);
    field.setAttribute("aria-invalid", String(wrong !== ""));
    parts.wrong[role].textContent = wrong;
    if (wrong || parse(text).equals(state.rows[role][letter])) return;
    change(() => (state.rows[role] = { ...state.rows[role], [letter]: parse(text) }));
  }

  function move(role, letter, steps) {
    const value = state.rows[role][letter].plus(STEP.times(steps));
    set(role, letter, String(value));
    if (!problem(String(value))) parts.fields[role][letter].value = shown(value);
  }

  function stepper(role, letter) {
    const name = `${letter} (${LETTERS[letter]}), ${ROLE_NAMES[role][0].toLowerCase()}`;
    const id = `wl-${role}-${letter}`;
    const keys = { ArrowUp: 1, ArrowDown: -1, PageUp: 4, PageDown: -4 };
    const press = (event) => {
      if (event.key in keys) {
        event.preventDefault();
        move(role, letter, keys[event.key]);
      } else if (event.key === "Enter") {
        set(role, letter, event.target.value);
      }
    };
    const typed = (event) => set(role, letter, event.target.value);
    const plain = { type: "text", autocomplete: "off", spellcheck: "false", id };
    const about = { "aria-label": name, "aria-describedby": `wl-wrong-${role}` };
    const field = make("input", { ...plain, ...about, onchange: typed, onkeydown: press });
    parts.fields[role][letter] = field;
    const button = (sign, steps) => {
      const text = { "aria-label": `${name}: ${steps < 0 ? "minus" : "plus"} one quarter` };
      return make("button", { type: "button", ...text, onclick: () => move(role, letter, steps) }, sign);
    };
    const words = `<i>${letter}</i> <span>${LETTERS[letter]}</span>`;
    const label = make("label", { for: id, html: words });
    return make("div", { class: "wl-stepper" }, label, button("\u2212", -1), field, button("+", 1));
  }

  function roleCard(role) {
    parts.fields[role] = {};
    const [name, where] = ROLE_NAMES[role];
    const legend = make("legend", {}, name);
    const place = make("p", { class: "wl-note", html: where });
    parts.invariants[role] = make("p", { class: "wl-invariants" });
    parts.wrong[role] = make("p", { class: "wl-wrong", role: "alert", id: `wl-wrong-${role}` });
    const shift = (sign, steps) => {
      const theta = STEP.times(steps);
      const text = { "aria-label": `shift ${name.toLowerCase()} by theta = ${theta}` };
      const press = () => gauge([role], () => theta, "Shifted");
      return make("button", { type: "button", ...text, onclick: press }, sign);
    };
    const quarters = [shift("\u22121/4", -1), shift("+1/4", 1)];
    const class_ = make("div", { class: "wl-shift" }, make("span", { html: "<i>θ</i>" }), ...quarters);
    const steppers = Object.keys(LETTERS).map((letter) => stepper(role, letter));
    const rest = [parts.wrong[role], parts.invariants[role], class_];
    return make("fieldset", { class: "wl-role" }, legend, place, ...steppers, ...rest);
  }

  function gauge(roles, theta, said) {
    const moved = roles.map((role) => shifted(state.rows[role], theta(state.rows[role])));
    if (moved.some((row) => [row.a, row.b, row.c].some((value) => problem(String(value))))) {
      parts.wrong[roles[0]].textContent = "The shifted table would leave the range of this page.";
      return;
    }
    const swap = () => roles.forEach((role, k) => (state.rows[role] = moved[k]));
    change(swap, `${said}: same training, same verdict.`);
  }

  function gauges() {
    const buttons = Object.values(GAUGES).map(([name, why, theta]) => {
      const press = () => gauge(ROLES, theta, `Gauge ${name}`);
      return make("button", { type: "button", onclick: press, html: `<i>${name[0]}</i>${name.slice(1)} <small>${why}</small>` });
    });
    const legend = make("legend", {}, "Same training in another gauge");
    return make("fieldset", { class: "wl-gauges" }, legend, ...buttons);
  }

  /* --- what a preset fixes besides -------------------------------------------------- */

  /* A term of an exponent that is linear in depth and layer, as "- L/2". */
  function term(factor, letter) {
    const { p, q } = factor;
    const size = Math.abs(p) === 1 ? "" : String(Math.abs(p));
    return `${p < 0 ? " \u2212 " : " + "}${size}<i>${letter}</i>${q === 1 ? "" : `/${q}`}`;
  }

  function firstExponent(role) {
    const [, deep, layer] = entryOf(state.preset).exponents[role].c_first.map(parse);
    const terms = [[deep, "L"], [layer, "l"]].filter(([factor]) => factor.p !== 0);
    const text = shown(state.rows[role].first) + terms.map((pair) => term(...pair)).join("");
    const here = state.rows[role].first.plus(deep.times(state.depth));
    const value = terms.length > 0 && layer.p === 0 ? ` = ${shown(here)}` : "";
    return `${role} <i>c</i> = ${text}${value}`;
  }

  function firstText() {
    const texts = ROLES.filter((role) => state.rows[role].first).map(firstExponent);
    return `The first step has exponents of its own: ${texts.join("; ")}.`;
  }

  function extraText(extra) {
    if (extra === "first") return firstText();
    if (extra === "mean") return "Hidden and output weights start with mean one, in units of their standard deviation.";
    const kept = entryOf(state.preset).exponents.hidden.retained;
    if (kept === null) return "After the first step the initial hidden weights are removed.";
    return `After the first step the initial hidden weights are multiplied by ${power(parse(kept).times(-1))}.`;
  }

  function extraBox(extra) {
    const toggle = (event) => {
      const others = state.off.filter((name) => name !== extra);
      change(() => (state.off = event.target.checked ? others : [...others, extra].sort()));
    };
    const box = make("input", { type: "checkbox", id: `wl-${extra}`, onchange: toggle });
    box.checked = !state.off.includes(extra);
    return make("div", { class: "wl-extra" }, box, make("label", { for: `wl-${extra}`, html: extraText(extra) }));
  }

  function renderExtras() {
    const names = extrasOf(state.preset);
    const notes = [];
    const entry = entryOf(state.preset);
    if (entry.bias) notes.push("Biases have exponents of their own, which the steppers do not move.");
    if ("growth" in entry.exponents.input) notes.push("Where hidden layers differ in width there are further factors. At equal widths, as here, the exponents are those of \u03BCP.");
    const key = JSON.stringify([state.preset, names.map(extraText), state.off]);
    if (parts.extras.dataset.key === key) return; // keep the focus
    const focus = document.activeElement && document.activeElement.id;
    parts.extras.dataset.key = key;
    parts.extras.hidden = names.length + notes.length === 0;
    const legend = make("legend", {}, `Also part of ${entry.label}`);
    parts.extras.replaceChildren(legend, ...names.map(extraBox), ...notes.map((note) => make("p", {}, note)));
    if (names.some((extra) => focus === `wl-${extra}`)) document.getElementById(focus).focus();
  }

  /* The catalogue at this depth. */
  function defined() {
    return catalogue.filter((entry) => state.depth <= (entry.max_depth || DEPTH.most));
  }

  /* --- verdict ---------------------------------------------------------------------- */

  function namesOf(table) {
    const key = (t) => regimes.classOf(t, state.depth, state.biases);
    return defined().filter((entry) => key(entry) === key(table));
  }

  function signals(layers) {
    const name = (layer) => (layer > state.depth ? "<i>f</i>" : h(layer));
    return listed(layers.map(name));
  }

  function layersWhere(exponents, test) {
    return exponents.flatMap((e, index) => (test(e) ? [index + 1] : []));
  }

  function startReason(v) {
    const small = layersWhere(v.preactivation, (e) => e.sign() < 0);
    const large = layersWhere([...v.preactivation, v.output], (e) => e.sign() > 0);
    if (large.length > 0) return `At initialisation ${signals(large)} grow${large.length > 1 ? "" : "s"} with width.`;
    if (small.length === 0) {
      return `Stable at initialisation: every <i>h</i><sup><i>l</i></sup> is of order one and <i>f</i> does not grow (it is ${power(v.output)}).`;
    }
    const sizes = small.map((layer) => `${h(layer)} = ${power(v.preactivation[layer - 1])}`);
    return `Not stable at initialisation in the sense of Tensor Programs IV, since signals vanish: ${listed(sizes)}. Nothing grows.`;
  }

  function blowUpReason(v) {
    const { step, layers } = v.blowUp;
    if (step === 0) return "A signal that grows before training makes the table unstable.";
    const sizes = [...v.feature_change, v.output_change];
    const named = layers.map((layer) => `${signals([layer])} by ${power(sizes[layer - 1])}`);
    return `Training breaks it: step ${step} moves ${listed(named)}.`;
  }

  function movementReasons(v) {
    const output = `The output moves by ${power(v.output_change)}`;
    if (v.regime === "trivial") return [`${output}: nothing is learnt in the limit.`];
    const most = layersWhere(v.feature_change, (e) => e.equals(v.r.times(-1)));
    if (v.regime === "kernel") {
      const reasons = [
        `${output}: the network learns.`,
        `Every hidden layer freezes. ${signals(most)} move${most.length > 1 ? "" : "s"} the most, by ${power(v.r.times(-1))}: <i>r</i> = ${shown(v.r)} > 0.`,
      ];
      const alike = layersWhere(v.relative_change, (e) => e.sign() >= 0);
      if (alike.length > 0) {
        reasons.push(`Mind that ${signals(alike)} move${alike.length > 1 ? "" : "s"} by as much as at the start or more: the verdict is about absolute sizes, and the kernel need not be constant.`);
      }
      return reasons;
    }
    const frozen = layersWhere(v.feature_change, (e) => e.sign() < 0);
    const reasons = [`${output}, and ${signals(most)} by ${power(v.r.times(-1))}: <i>r</i> = ${shown(v.r)}.`];
    if (frozen.length > 0) reasons.push(`${signals(frozen)} freeze${frozen.length > 1 ? "" : "s"} all the same.`);
    return reasons;
  }

  function reasons(v) {
    return [startReason(v), ...(v.blowUp ? [blowUpReason(v)] : movementReasons(v))];
  }

  /* Whether the closed conditions of Tensor Programs IV speak about this table. */
  function plain(table, v) {
    const rows = ROLES.map((role) => table.exponents[role]);
    const special = rows.some((row) => Object.values(EXTRAS).some(({ has }) => has(row)));
    return v.stable_at_init && !special && state.biases === "none";
  }

  function condition(text, value, bound) {
    const slack = value.minus(new Fraction(bound));
    const sign = slack.sign();
    const mark = sign < 0 ? "\u2717 fails" : sign === 0 ? "\u2713 with equality" : "\u2713";
    return make("li", { html: `${text} = ${shown(value)} \u2265 ${bound}: <strong>${mark}</strong>` });
  }

  function conditions(table, v) {
    if (!plain(table, v)) return [];
    const { r, terms, size, rate } = regimes.closedForm(table, state.depth);
    const back = "min(<i>a</i> + <i>b</i>, 2<i>a</i> + <i>c</i>)<sub>output</sub> + (2<i>a</i> + <i>c</i>)";
    const items = terms.map(({ role, value }) =>
      condition(`${capital(role)}: ${back}<sub>${role}</sub>${role === "hidden" ? " \u2212 1" : ""}`, value, 0),
    );
    items.push(condition("Output: (2<i>a</i> + <i>c</i>)<sub>output</sub>", rate, 1));
    items.push(condition("Output: (<i>a</i> + <i>b</i>)<sub>output</sub> + <i>r</i>", size.plus(r), 1));
    const rule = "Stable if none fails; trivial if neither of the last two is an equality; feature learning if one of the others is (<i>r</i> = 0, their least value).";
    const title = make("summary", {}, "The closed conditions, term by term");
    const list = make("ul", {}, ...items);
    return [make("details", { open: "" }, title, list, make("p", { html: rule }))];
  }

  function renderVerdict(table, v, said) {
    const names = namesOf(table).map((entry) => entry.label);
    const origin = entryOf(state.preset).label;
    const who = names.length > 0 ? `same training as ${listed(names)}` : `moved from ${origin}`;
    const late = v.blowUp && (v.blowUp.step === 0 ? "at the start" : `at step ${v.blowUp.step}`);
    const size = late ? `blows up ${late}` : `r = ${shown(v.r)}`;
    const text = `${capital(v.regime)}: ${who}. L = ${state.depth}, ${size}.${said ? ` ${said}` : ""}`;
    const strip = parts.status;
    strip.className = `wl-status wl-${v.regime.replace(" ", "-")}`;
    if (strip.textContent !== `${SIGNS[v.regime]} ${text}`) {
      const sign = make("span", { "aria-hidden": "true" }, `${SIGNS[v.regime]} `);
      const word = make("strong", {}, capital(v.regime));
      strip.replaceChildren(sign, word, text.slice(v.regime.length));
    }
    const items = reasons(v).map((html) => make("li", { html }));
    parts.reasons.replaceChildren(make("ul", {}, ...items), ...conditions(table, v));
  }

  /* --- table of exponents ----------------------------------------------------------- */

  function cell(fraction) {
    if (!fraction) return make("td", {}, "\u2013");
    const [arrow, word] = { "-1": ["\u2198", "vanishes"], 0: ["\u2192", "order one"], 1: ["\u2197", "grows"] }[fraction.sign()];
    const sign = `<span class="wl-arrow" aria-hidden="true">${arrow}</span>`;
    return make("td", { html: `${power(fraction)} ${sign}<span class="wl-hidden">(${word})</span>` });
  }

  function layerRow(v, index) {
    const last = index === state.depth;
    const name = make("th", { scope: "row", html: last ? "<i>f</i>" : h(index + 1) });
    if (last) return make("tr", {}, name, ...[v.output, null, v.first_update[index], v.output_change, null].map(cell));
    const columns = ["preactivation", "gradient", "first_update", "feature_change", "relative_change"];
    return make("tr", {}, name, ...columns.map((column) => cell(v[column][index])));
  }

  function renderTable(v) {
    const late = v.blowUp ? `change at step ${Math.max(v.blowUp.step, 1)}` : "change in training";
    const heads = ["layer", "at the start", "\u2202\u2112/\u2202<i>h</i>", "first \u2016\u0394<i>W</i>\u2016<sub>F</sub>", late, "relative change"];
    const head = make("tr", {}, ...heads.map((html) => make("th", { scope: "col", html })));
    const rows = Array.from({ length: state.depth + 1 }, (_, index) => layerRow(v, index));
    const caption = make("caption", {}, "Sizes as powers of the width: \u2198 vanishes, \u2192 of order one, \u2197 grows.");
    parts.table.replaceChildren(caption, make("thead", {}, head), make("tbody", {}, ...rows));
  }

  /* --- pictures --------------------------------------------------------------------- */

  function width() {
    return Math.max(280, Math.min(parts.plane.clientWidth || 640, 680));
  }

  function renderPlane(v) {
    const items = defined().map((entry) => ({
      entry,
      verdict: regimes.classify(entry, state.depth, 6, entry.biases),
    }));
    const { picture, groups } = pictures.plane(width(), items, v);
    parts.plane.replaceChildren(picture);
    parts.places.replaceChildren(...groups.map(placeItem));
  }

  /* What stands at one place of the plane, by kind of limit. */
  function placeItem({ letter, group }) {
    const { output, r } = group[0].verdict;
    const where = `<strong>${letter}</strong> <i>f</i> = ${power(output)}, \u0394<i>h</i> = ${power(r.times(-1))}: `;
    const kinds = [...new Set(group.map(({ verdict }) => verdict.regime))];
    const texts = kinds.flatMap((kind) => {
      const names = group.filter(({ verdict }) => verdict.regime === kind).map(({ entry }) =>
        make("span", { class: "wl-name" }, pictures.swatch(entry), entry.label),
      );
      return [`${kind} `, ...names.flatMap((name) => [name, " "])];
    });
    return make("li", {}, make("span", { html: where }), ...texts);
  }

  function quarters(low, high, value) {
    const from = Math.min(4 * low, Math.floor(4 * value));
    const to = Math.max(4 * high, Math.ceil(4 * value));
    return Array.from({ length: to - from + 1 }, (_, k) => new Fraction(from + k, 4));
  }

  const invariant = (row, letter) => regimes.invariants(row)[letter === "b" ? "size" : "rate"];

  /* The table with one of its invariants set, by b or by c. */
  function withInvariant(table, { role, letter }, value) {
    const row = table.exponents[role];
    const moved = parse(row[letter]).plus(value.minus(invariant(row, letter)));
    const exponents = { ...table.exponents, [role]: { ...row, [letter]: String(moved) } };
    return { ...table, exponents };
  }

  /* Named tables that share everything but the two invariants of the slice. */
  function onSlice(table, [across, up]) {
    const zero = new Fraction(0);
    const project = (t) => withInvariant(withInvariant(t, across, zero), up, zero);
    const rest = (t) => regimes.classOf(project(t), state.depth, state.biases);
    const same = rest(table);
    return defined()
      .filter((entry) => rest(entry) === same)
      .map((entry) => ({
        entry,
        x: invariant(entry.exponents[across.role], across.letter).number(),
        y: invariant(entry.exponents[up.role], up.letter).number(),
      }));
  }

  function renderSlice(table) {
    const chosen = axes.map((index) => AXES[index]);
    const point = chosen.map(({ role, letter }) => invariant(table.exponents[role], letter));
    const [xs, ys] = chosen.map(({ low, high }, k) => quarters(low, high, point[k].number()));
    const at = (x, y) => withInvariant(withInvariant(table, chosen[0], x), chosen[1], y);
    const regime = (x, y) => regimes.classify(at(x, y), state.depth, 6, state.biases).regime;
    const choose = (i, j) => change(() => {
      [xs[i], ys[j]].forEach((value, k) => {
        const { role, letter } = chosen[k];
        const row = state.rows[role];
        state.rows[role] = { ...row, [letter]: row[letter].plus(value.minus(point[k])) };
      });
    });
    parts.slice.replaceChildren(pictures.slice(width(), {
      xs: xs.map((x) => x.number()),
      ys: ys.map((y) => y.number()),
      cells: ys.map((y) => xs.map((x) => regime(x, y))),
      across: chosen[0].name,
      up: chosen[1].name,
      marks: onSlice(table, chosen),
      point: { x: point[0].number(), y: point[1].number() },
      choose,
    }));
  }

  function axisControl(which, name) {
    const id = `wl-axis-${which}`;
    const options = AXES.map((axis, index) => make("option", { value: index }, axis.name));
    const pick = (event) => {
      const other = axes[1 - which];
      const taken = Number(event.target.value);
      if (taken === other) axes[1 - which] = axes[which]; // swap the two
      axes[which] = taken;
      render();
    };
    parts.axes[which] = make("select", { id, onchange: pick }, ...options);
    return make("div", { class: "wl-field" }, make("label", { for: id }, name), parts.axes[which]);
  }

  /* --- the same in Python ----------------------------------------------------------- */

  function pythonFraction(fraction) {
    return fraction.q === 1 ? `F(${fraction.p})` : `F(${fraction.p}, ${fraction.q})`;
  }

  function mutations(role) {
    const entry = entryOf(state.preset).exponents[role];
    const row = state.rows[role];
    const moved = ["a", "b", "c"].filter((letter) => !parse(entry[letter]).equals(row[letter]));
    const changes = moved.map((letter) => `${letter}=${pythonFraction(row[letter])}`);
    const dropped = state.off.filter((extra) => EXTRAS[extra].has(entry));
    const first = row.first && !dropped.includes("first");
    if (first && !parse(entry.c_first[0]).equals(row.first)) {
      const [, deep, layer] = entry.c_first.map(parse);
      changes.push(`c_first=Linear(${[row.first, deep, layer].map(pythonFraction).join(", ")})`);
    }
    changes.push(...dropped.map((extra) => EXTRAS[extra].python));
    return changes;
  }

  function python() {
    const lines = ROLES.flatMap((role) => {
      const changes = mutations(role);
      return changes.length > 0 ? [`table = table.mutated(Role.${role.toUpperCase()}, ${changes.join(", ")})`] : [];
    });
    const text = lines.join("\n");
    const names = [...(text.includes("Linear(") ? ["Linear"] : []), ...(text ? ["Role"] : []), "get"];
    const biases = state.biases === "none" ? "" : `, biases="${state.biases}"`;
    return [
      ...(text.includes("F(") ? ["from fractions import Fraction as F", ""] : []),
      `from widthlab.parametrization import ${names.join(", ")}`,
      "from widthlab.regimes import classify",
      "",
      `table = get("${state.preset}")`,
      ...lines,
      `print(classify(table, depth=${state.depth}${biases}))`,
    ].join("\n");
  }

  /* --- putting it together ---------------------------------------------------------- */

  function renderControls(table) {
    for (const button of parts.presets) {
      const mine = button.dataset.preset === state.preset;
      button.setAttribute("aria-pressed", String(mine && untouched(state)));
    }
    parts.depth.value = state.depth;
    parts.depthShown.textContent = state.depth;
    parts.biases.value = state.biases;
    parts.axes.forEach((select, which) => (select.value = axes[which]));
    for (const role of ROLES) {
      const { size, rate } = regimes.invariants(table.exponents[role]);
      parts.invariants[role].innerHTML =
        `<i>a</i> + <i>b</i> = <strong>${shown(size)}</strong>, 2<i>a</i> + <i>c</i> = <strong>${shown(rate)}</strong>`;
      for (const letter of Object.keys(LETTERS)) {
        const field = parts.fields[role][letter];
        field.value = shown(state.rows[role][letter]);
        field.setAttribute("aria-invalid", "false");
      }
    }
    parts.single.hidden = state.depth > 1;
    parts.link.href = hashOf(state);
  }

  function render(said = "") {
    const table = tableOf(state);
    const v = regimes.classify(table, state.depth, 6, state.biases);
    for (const role of ROLES) if (!said) parts.wrong[role].textContent = "";
    renderControls(table);
    renderExtras();
    renderVerdict(table, v, said);
    renderTable(v);
    parts.python.textContent = python();
    renderPlane(v);
    // The slice takes hundreds of verdicts: the one of the table does not wait for it.
    window.clearTimeout(pending);
    pending = window.setTimeout(() => renderSlice(table), 30);
    parts.strip.replaceChildren(pictures.strip(width(), v));
  }

  function figure(title, caption, ...children) {
    const text = make("figcaption", { html: caption });
    return make("figure", {}, make("h3", {}, title), ...children, text);
  }

  function results() {
    parts.reasons = make("div", { class: "wl-reasons" });
    parts.table = make("table", { class: "wl-layers" });
    for (const name of ["plane", "slice", "strip"]) parts[name] = make("div", { class: "wl-canvas" });
    parts.places = make("ul", { class: "wl-places" });
    parts.python = make("pre", { tabindex: 0, class: "wl-python", "aria-label": "Python code" });
    parts.axes = [];
    const choice = make("div", { class: "wl-fields" }, axisControl(0, "Across"), axisControl(1, "Up"));
    const scroll = make("div", { class: "wl-scroll", tabindex: 0, role: "region", "aria-label": "Exponents by layer" }, parts.table);
    return [
      make("section", { "aria-label": "Reasons" }, parts.reasons),
      scroll,
      figure("Layer by layer", "Rings: size at the start. Discs: change in training. The line at 0 is order one.", parts.strip),
      figure("Where the parametrizations sit", "At this depth, each with the biases that it is defined for. On the thick line features move at order one, above it they blow up (from 1 on drawn at the edge), below it they freeze. The ring with a cross is the table above.", parts.plane, parts.places),
      figure("A slice through the space of tables", "Each cell is the verdict at its centre, in steps of 1/4, with everything else as in the table above (the ring with a cross). Named are the parametrizations that lie on this very slice. A click moves the table there, by <i>b</i> or by <i>c</i>, as the steppers do.", choice, parts.slice),
      make("section", { "aria-label": "This table in Python" }, make("h3", {}, "This table in Python"), parts.python),
    ];
  }

  function build() {
    Object.assign(parts, { fields: {}, wrong: {}, invariants: {} });
    parts.status = make("p", { role: "status", "aria-live": "polite" });
    parts.extras = make("fieldset", { class: "wl-extras" });
    parts.single = make("p", { class: "wl-note", html: "With <i>L</i> = 1 there is no hidden matrix: its row has no effect." });
    parts.link = make("a", { class: "wl-link" }, "Link to this table");
    const hint = make("p", { class: "wl-note" }, "Type a fraction, or use the arrow keys: up and down move by 1/4, page up and page down by 1.");
    const cards = make("div", { class: "wl-roles" }, ...ROLES.map(roleCard));
    const fields = make("div", { class: "wl-fields" }, depthControl(), biasControl(), parts.link);
    const controls = [presets(), fields, cards, parts.single, hint, gauges(), parts.extras, parts.status];
    root.replaceChildren(make("div", { class: "wl-controls" }, ...controls), ...results());
  }

  build();
  render();
  window.addEventListener("hashchange", () => {
    const linked = readHash(window.location.hash);
    if (!linked) return; // a link to a heading
    state = linked;
    render();
  });
  let drawn = width();
  window.addEventListener("resize", () => {
    if (width() === drawn) return;
    drawn = width();
    render();
  });
})();
