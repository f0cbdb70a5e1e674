/* The rules of widthlab.regimes, for tables in the form of Parametrization.to_json.
 *
 * Exponents are exact. A table is brought to a common denominator D, and the recursion
 * runs on integers: the exponent p is held as the number p * D of units.
 */
(function () {
  "use strict";

  const ROLES = ["input", "hidden", "output"];
  const BIASES = ["none", "input", "all"];
  const REGIMES = {
    unstable: "unstable",
    trivial: "trivial",
    kernel: "kernel",
    rich: "feature learning",
  };

  function gcd(p, q) {
    return q === 0 ? Math.abs(p) : gcd(q, p % q);
  }

  function lcm(p, q) {
    return (p / gcd(p, q)) * q;
  }

  /* An exact fraction in lowest terms, with a positive denominator. */
  class Fraction {
    constructor(p, q = 1) {
      const sign = q < 0 ? -1 : 1;
      const common = gcd(p, q);
      this.p = (sign * p) / common || 0; // no negative zero
      this.q = (sign * q) / common;
      Object.freeze(this);
    }

    plus(other) {
      return new Fraction(this.p * other.q + other.p * this.q, this.q * other.q);
    }

    times(whole) {
      return new Fraction(this.p * whole, this.q);
    }

    half() {
      return new Fraction(this.p, 2 * this.q);
    }

    minus(other) {
      return this.plus(other.times(-1));
    }

    equals(other) {
      return this.p === other.p && this.q === other.q;
    }

    /* For drawing only: nothing is compared that way. */
    number() {
      return this.p / this.q;
    }

    sign() {
      return Math.sign(this.p);
    }

    toString() {
      return this.q === 1 ? String(this.p) : `${this.p}/${this.q}`;
    }
  }

  function readFraction(text) {
    const plain = text.trim().replace(/[\u2212\u2013]/g, "-");
    const match = /^([+-]?)(\d{1,6})(?:\s*\/\s*(\d{1,6})|\.(\d{1,6}))?$/.exec(plain);
    if (!match) return null;
    const [, sign, whole, below, decimals] = match;
    const scale = decimals ? 10 ** decimals.length : 1;
    const q = below === undefined ? scale : Number(below);
    if (q === 0) return null;
    const p = Number(whole) * scale + (decimals ? Number(decimals) : 0);
    return new Fraction(sign === "-" ? -p : p, q);
  }

  const known = new Map(); // a slice reads the same few texts thousands of times

  /* Read -1/2, 3 or 0.25, with either minus sign; null if it is not a fraction. */
  function parse(text) {
    const key = String(text);
    if (!known.has(key)) known.set(key, readFraction(key));
    return known.get(key);
  }

  /* --- tables ------------------------------------------------------------------- */

  function rowsOf(table) {
    const rows = ROLES.map((role) => table.exponents[role]);
    return table.bias ? [...rows, table.bias] : rows;
  }

  function fractionsOf(row) {
    const texts = [row.a, row.b, row.c, ...(row.c_first || [])];
    return row.retained === null ? texts : [...texts, row.retained];
  }

  function commonDenominator(table) {
    const all = rowsOf(table).flatMap(fractionsOf).map(parse);
    return all.reduce((d, fraction) => lcm(d, fraction.q), 2);
  }

  /* A row without multiplier (a = 0), in units. */
  function effective(row, units) {
    const a = units(row.a);
    const first = row.c_first && row.c_first.map(units);
    return {
      b: units(row.b) + a,
      c: units(row.c) + 2 * a,
      first: first && [first[0] + 2 * a, first[1], first[2]],
      mean: parse(row.mean).p !== 0,
      retained: row.retained === null ? null : units(row.retained),
    };
  }

  function firstAt(row, depth, layer) {
    if (!row.first) return row.c;
    return row.first[0] + row.first[1] * depth + row.first[2] * layer;
  }

  const OUTPUT_BIAS = { b: 0, c: 0, first: null, mean: false, retained: 0 };

  function biasRow(table, role, units) {
    if (role === "output") return OUTPUT_BIAS;
    return effective(table.bias || table.exponents.input, units);
  }

  /* The matrix of each layer, and its biases behind it where there are some. */
  function layersOf(table, depth, biases, units) {
    const hidden = Array(depth - 1).fill("hidden");
    const roles = ["input", ...hidden, "output"];
    const withBiases = { none: 0, input: 1, all: roles.length }[biases];
    return roles.map((role, index) => {
      const layer = index + 1;
      const wideOut = role !== "output";
      const part = (row, wideIn, bias) => {
        const first = firstAt(row, depth, layer);
        return { layer, row, first, wideIn, wideOut, bias };
      };
      const matrix = effective(table.exponents[role], units);
      const parts = [part(matrix, role !== "input", false)];
      if (layer <= withBiases) parts.push(part(biasRow(table, role, units), false, true));
      return parts;
    });
  }

  /* --- the recursion ------------------------------------------------------------ */

  class Recursion {
    constructor(layers, one) {
      this.layers = layers;
      this.one = one; // the exponent 1 in units
      this.updates = [];
      [this.forward, this.change] = this.forwardPass();
      this.initial = this.forward;
    }

    input(part, signals) {
      return part.bias ? 0 : signals[part.layer - 1];
    }

    /* Gain of the initial weights on a vector, which has n coordinates if wide. */
    start(part, wide) {
      if (!wide) return -part.row.b;
      return (part.row.mean ? this.one : this.one / 2) - part.row.b;
    }

    /* Share of the initial weights that is there now; empty if none is. */
    share(part) {
      if (this.updates.length === 0) return [0];
      return part.row.retained === null ? [] : [-part.row.retained];
    }

    kept(part, wide) {
      return this.share(part).map((share) => this.start(part, wide) + share);
    }

    /* Entries of the update of a step, a learning rate times dh x^T. */
    update(part, step) {
      const [x, dh] = this.updates[step];
      const c = step === 0 ? part.first : part.row.c;
      return dh[part.layer - 1] + this.input(part, x) - c;
    }

    updatesOf(part) {
      return this.updates.map((_, step) => this.update(part, step));
    }

    /* Change of what the initial weights, or what is left of them, make. */
    carried(part, kept, moved) {
      const start = this.start(part, part.wideIn);
      if (this.updates.length > 0 && part.row.retained !== 0) {
        return [...kept, start + this.input(part, this.initial)];
      }
      const last = part.bias ? null : moved[part.layer - 1];
      return last === null ? [] : [start + last];
    }

    forwardPass() {
      const sizes = [0];
      const moved = [null]; // null: exactly zero
      let aligned = [];
      for (const parts of this.layers) {
        const start = [];
        const learnt = [];
        const carried = [];
        for (const part of parts) {
          const x = this.input(part, sizes);
          const kept = this.kept(part, part.wideIn).map((gain) => x + gain);
          const sum = part.wideIn ? this.one : 0;
          start.push(...kept);
          learnt.push(...this.updatesOf(part).map((e) => x + e + sum));
          carried.push(...this.carried(part, kept, moved));
        }
        const matrix = parts[0];
        const shares = this.share(matrix);
        aligned = aligned.flatMap((e) => shares.map((k) => e + k));
        if (!matrix.wideOut) {
          learnt.push(...aligned);
        } else if (learnt.length > 0) {
          const back = this.updates[0][1][matrix.layer - 1];
          aligned.push(Math.max(...learnt) + back + this.one);
        }
        const changes = [...learnt, ...carried];
        sizes.push(Math.max(...start, ...learnt));
        moved.push(changes.length > 0 ? Math.max(...changes) : null);
      }
      return [sizes, moved];
    }

    backwardPass() {
      const sizes = [0]; // error signal at the output, of order one
      for (const [matrix] of this.layers.slice(1).reverse()) {
        const wide = matrix.wideOut;
        const sum = wide ? this.one : 0;
        const learnt = this.updatesOf(matrix).map((e) => e + sum);
        sizes.unshift(Math.max(...this.kept(matrix, wide), ...learnt) + sizes[0]);
      }
      return sizes;
    }

    step() {
      this.updates.push([this.forward, this.backwardPass()]);
      [this.forward, this.change] = this.forwardPass();
    }

    /* Layers, from 1 to L + 1, whose signal grows with width. */
    blownUp() {
      return this.forward.flatMap((e, layer) => (layer > 0 && e > 0 ? [layer] : []));
    }

    firstUpdate() {
      return this.layers.map(([matrix]) => {
        const wide = Number(matrix.wideIn) + Number(matrix.wideOut);
        return this.update(matrix, 0) + (this.one / 2) * wide;
      });
    }
  }

  function regimeOf(unstable, hidden, output) {
    if (unstable) return REGIMES.unstable;
    if (output < 0) return REGIMES.trivial;
    return Math.max(...hidden) < 0 ? REGIMES.kernel : REGIMES.rich;
  }

  /* Train until a signal grows with width. Returns when and where one first does, with
   * step 0 for the initialisation, or null. */
  function train(recursion, steps) {
    let layers = recursion.blownUp();
    let first = layers.length > 0 ? { step: 0, layers } : null;
    for (let step = 1; step <= steps; step += 1) {
      recursion.step();
      layers = recursion.blownUp();
      if (layers.length > 0) {
        first = first || { step, layers };
        break; // exponents double from here on and say nothing more
      }
    }
    return first;
  }

  /* The verdict on a table, with the fields of widthlab.regimes.Classification. */
  function classify(table, depth, steps = 6, biases = "none") {
    if (!BIASES.includes(biases)) throw new RangeError(`biases is ${biases}`);
    const one = commonDenominator(table);
    const units = (text) => {
      const fraction = parse(text);
      return fraction.p * (one / fraction.q);
    };
    const exact = (value) => new Fraction(value, one);
    const recursion = new Recursion(layersOf(table, depth, biases, units), one);
    const blowUp = train(recursion, steps);
    const start = recursion.initial.slice(1, -1);
    const output = recursion.initial[depth + 1];
    const hidden = recursion.change.slice(1, -1);
    const moved = recursion.change[depth + 1];
    return {
      regime: regimeOf(blowUp !== null, hidden, moved),
      stable_at_init: start.every((e) => e === 0) && output <= 0,
      preactivation: start.map(exact),
      output: exact(output),
      feature_change: hidden.map(exact),
      relative_change: hidden.map((e, index) => exact(e - start[index])),
      output_change: exact(moved),
      r: exact(-Math.max(...hidden)),
      gradient: recursion.updates[0][1].slice(0, -1).map(exact),
      first_update: recursion.firstUpdate().map(exact),
      blowUp,
    };
  }

  /* --- closed conditions and equivalence ---------------------------------------- */

  function smaller(x, y) {
    return x.minus(y).sign() <= 0 ? x : y;
  }

  /* a + b and 2a + c of a row: all that SGD sees of its triple. */
  function invariants(row) {
    const [a, b, c] = [row.a, row.b, row.c].map(parse);
    return { size: a.plus(b), rate: a.times(2).plus(c) };
  }

  /* The terms of r in Tensor Programs IV, Definition 3.2, with a c for each role. */
  function closedForm(table, depth) {
    const [first, hidden, out] = ROLES.map((role) => invariants(table.exponents[role]));
    const backward = smaller(out.size, out.rate);
    const terms = [{ role: "input", value: backward.plus(first.rate) }];
    if (depth > 1) {
      const value = backward.plus(hidden.rate).minus(new Fraction(1));
      terms.push({ role: "hidden", value });
    }
    const r = terms.map((term) => term.value).reduce(smaller);
    return { r, terms, size: out.size, rate: out.rate };
  }

  /* What SGD sees of a row in a layer, as a text. */
  function seen(row, depth, layer) {
    const { size, rate } = invariants(row);
    const [first, deep, place] = (row.c_first || [row.c, "0", "0"]).map(parse);
    const a = parse(row.a).times(2);
    const begin = first.plus(a).plus(deep.times(depth)).plus(place.times(layer));
    return [size, rate, begin, row.mean, row.retained].join(" ");
  }

  /* A text that two tables share if SGD trains the same functions under both, in a
   * network of that depth with equal widths. */
  function classOf(table, depth, biases = "none") {
    const hidden = Array(depth - 1).fill("hidden");
    const roles = ["input", ...hidden, "output"];
    const keys = roles.map((role, k) => seen(table.exponents[role], depth, k + 1));
    const bias = table.bias || table.exponents.input;
    const added = { none: 0, input: 1, all: depth }[biases];
    for (let layer = 1; layer <= added; layer += 1) keys.push(seen(bias, depth, layer));
    return keys.join("; ");
  }

  const api = { ROLES, BIASES, REGIMES, Fraction };
  Object.assign(api, { parse, classify, invariants, closedForm, classOf });
  globalThis.widthlabRegimes = api;
  if (typeof module !== "undefined") module.exports = api;
})();
