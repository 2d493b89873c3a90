/* The atlas page: a table of heads to search, sort and filter, and a card for each head.
 *
 * helpers/notebooks/atlas_page.py writes the data into the page. Everything from it becomes text nodes
 * and attributes, never HTML. A card's address is #L23H3, or #<stem>-L9H9 for a further model. */
(() => {
  "use strict";

  const data = JSON.parse(document.getElementById("atlas-data").textContent);
  const root = document.getElementById("atlas");
  const SVG = "http://www.w3.org/2000/svg";

  // --- small things -------------------------------------------------------------------------------

  function fill(element, attributes, children) {
    for (const [name, value] of Object.entries(attributes)) {
      if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
      else if (value === true) element.setAttribute(name, "");
      else if (value !== false && value !== null) element.setAttribute(name, value);
    }
    element.append(...children);
    return element;
  }
  const html = (tag, attributes = {}, ...children) =>
    fill(document.createElement(tag), attributes, children);
  const svg = (tag, attributes = {}, ...children) =>
    fill(document.createElementNS(SVG, tag), attributes, children);
  const number = (value) => value.toFixed(3).replace("-", "−").replace("−0.000", "0.000");
  const clamp = (value, low, high) => Math.min(high, Math.max(low, value));
  const largest = (values) => Math.max(...values.map(Math.abs)) || 1;

  /* Docstrings set code in backticks. */
  const prose = (text) => text.split(/`+/).map((part, at) => (at % 2 ? html("code", {}, part) : part));

  const longAddress = (model, name) => `#${encodeURIComponent(model.stem)}-${name}`;
  const address = (model, name) => (model === data.models[0] ? `#${name}` : longAddress(model, name));
  const breakable = (name) => name.split(/(?<=_)/).flatMap((part, at) => (at ? [html("wbr"), part] : [part]));
  const headLink = (model, name) => html("a", { href: address(model, name) }, name);

  const goTo = (model, index) => { location.hash = address(model, model.heads[index]); };

  function headAt(hash) {
    for (const model of data.models) {
      const index = model.heads.findIndex((name) =>
        hash === address(model, name) || hash === longAddress(model, name));
      if (index >= 0) return { model, index };
    }
    return null;
  }

  function kindChips(model, index) {
    const role = model.roles && model.roles[index];
    const chips = model.kinds[index].map((kind) => {
      const { score, threshold } = data.kinds[kind];
      const rule = `${score} ${threshold < 0 ? "below" : "above"} ${threshold}`;
      return html("span", { class: "atlas-kind", title: rule }, kind);
    });
    if (role) chips.unshift(html("span", { class: "atlas-kind atlas-role" }, `${role} (Wang et al.)`));
    return chips;
  }

  // --- the table ----------------------------------------------------------------------------------

  const state = {
    model: data.models[0], query: "", kind: "", score: "", low: NaN, high: NaN, sort: "", up: false,
  };

  /* "L23H3", "23.3" or "23 3" is one head, "L23" or "23" a layer, "H3" that head of each layer; other
   * words are looked for in kinds and roles. */
  function matches(model, index, query) {
    const text = query.trim().toLowerCase();
    const [, layer, head] = /^l?(\d+)?(?:[\s.,:h]+(\d+)?)?$/.exec(text) || [];
    if (layer === undefined && head === undefined) {
      return [...model.kinds[index], model.roles ? model.roles[index] : ""].join(" ").includes(text);
    }
    const [ours, own] = model.heads[index].slice(1).split("H");
    return (layer === undefined || +layer === +ours) && (head === undefined || +head === +own);
  }

  function ofKind(model, index, kind) {
    const kinds = model.kinds[index];
    return kind === "none" ? !kinds.length : !kind || kinds.includes(kind);
  }

  function shownHeads() {
    const { model, kind, low, high, sort, up } = state;
    const values = model.scores[state.score].values;
    const keys = sort === "head" ? model.heads.map((_, index) => index) : model.scores[sort].values;
    return model.heads
      .map((_, index) => index)
      .filter((index) => matches(model, index, state.query))
      .filter((index) => ofKind(model, index, kind))
      .filter((index) => !(values[index] < low) && !(values[index] > high))
      .sort((a, b) => (up ? keys[a] - keys[b] : keys[b] - keys[a]) || a - b);
  }

  function scoreCell(model, score, index, scale) {
    const { values, errors } = model.scores[score];
    const value = values[index];
    const share = Math.abs(value) / scale;
    return html("td", {
      class: value < 0 ? "atlas-value atlas-negative" : "atlas-value",
      style: `--share: ${share.toFixed(3)}`,
      title: errors ? `${score} ${number(value)} ± ${number(errors[index])}` : null,
    }, number(value));
  }

  function headerCell(key, label, title) {
    const sorted = state.sort === key;
    return html("th", { scope: "col", "aria-sort": sorted ? (state.up ? "ascending" : "descending") : null },
      html("button", {
        type: "button",
        title,
        "data-sort": key,
        onclick: () => {
          Object.assign(state, sorted ? { up: !state.up } : { sort: key, up: key === "head" });
          drawTable();
          table.querySelector(`[data-sort="${key}"]`).focus();
        },
      }, ...label));
  }

  function drawTable() {
    const { model, score } = state;
    const scores = [score, ...data.main.filter((name) => name !== score && name in model.scores)];
    const scales = scores.map((name) => largest(model.scores[name].values));
    const heads = shownHeads();
    table.replaceChildren(
      html("thead", {}, html("tr", {},
        headerCell("head", ["head"], "by layer and head"),
        ...scores.map((name) => headerCell(name, breakable(name), model.scores[name].meaning)),
        html("th", { scope: "col" }, "kinds"))),
      html("tbody", {}, ...heads.map((index) => html("tr", { onclick: () => goTo(model, index) },
        html("th", { scope: "row" }, headLink(model, model.heads[index])),
        ...scores.map((name, column) => scoreCell(model, name, index, scales[column])),
        html("td", { class: "atlas-kinds" }, ...kindChips(model, index))))));
    status.textContent = `${heads.length} of ${model.heads.length} heads`;
    const published = model.measured ? "" :
      "Published, not measured here: reference data, without errors and without attention pictures. ";
    const missing = Object.entries(model.unavailable).map(([name, why]) => `No ${name}: ${why} `);
    note.textContent = published + missing.join("");
    note.hidden = !note.textContent;
  }

  // --- controls -----------------------------------------------------------------------------------

  const choice = (id, onchange) => html("select", { id, onchange });
  const options = (select, entries) =>
    select.replaceChildren(...entries.map(([value, label]) => html("option", { value }, label)));
  const field = (label, control) =>
    html("div", { class: "atlas-field" }, html("label", { for: control.id }, label), control);

  const modelChoice = choice("atlas-model", () => chooseModel(data.models[modelChoice.selectedIndex]));
  const search = html("input", {
    id: "atlas-search", type: "search", placeholder: "L23H3, 23.3, L23",
    autocomplete: "off", spellcheck: "false",
    oninput: () => { state.query = search.value; drawTable(); },
    onkeydown: (event) => {
      const heads = shownHeads();
      if (event.key === "Enter" && heads.length === 1) goTo(state.model, heads[0]);
    },
  });
  const kindChoice = choice("atlas-kind", () => { state.kind = kindChoice.value; drawTable(); });
  const scoreChoice = choice("atlas-score", () => chooseScore(scoreChoice.value));
  const limit = (id, key) => {
    const input = html("input", {
      id, type: "number", step: "any",
      oninput: () => { state[key] = input.valueAsNumber; drawTable(); },
    });
    return input;
  };
  const low = limit("atlas-low", "low"), high = limit("atlas-high", "high");
  const status = html("p", { role: "status" });
  const note = html("p", { class: "atlas-note" });
  const table = html("table", { class: "atlas-table" });

  function chooseScore(score) {
    Object.assign(state, { score, low: NaN, high: NaN, sort: score, up: false });
    low.value = high.value = "";
    const { values } = state.model.scores[score];
    low.placeholder = number(Math.min(...values));
    high.placeholder = number(Math.max(...values));
    drawTable();
  }

  function chooseModel(model) {
    state.model = model;
    modelChoice.selectedIndex = data.models.indexOf(model);
    const scores = Object.keys(model.scores);
    options(scoreChoice, scores.map((name) => [name, name]));
    const kinds = Object.keys(data.kinds).filter((kind) => data.kinds[kind].score in model.scores);
    options(kindChoice, [["", "any"], ...kinds.map((kind) => [kind, kind]), ["none", "of no kind"]]);
    if (state.kind !== "none" && !kinds.includes(state.kind)) state.kind = "";
    kindChoice.value = state.kind;
    if (!scores.includes(state.score)) state.score = scores.includes("induction") ? "induction" : scores[0];
    scoreChoice.value = state.score;
    chooseScore(state.score);
  }

  function reset() {
    Object.assign(state, { query: "", kind: "", score: "" });
    search.value = "";
    chooseModel(state.model);
  }

  // --- attention on a prompt ----------------------------------------------------------------------

  /* One head's weights: rows of the triangle up to the diagonal, one after another. */
  function weightsOf(prompt, index) {
    if (!prompt.numbers) {
      const bytes = Uint8Array.from(atob(prompt.patterns), (letter) => letter.charCodeAt(0));
      const view = new DataView(bytes.buffer);
      prompt.numbers = Array.from({ length: bytes.length / 2 }, (_, at) => view.getUint16(2 * at, true));
    }
    const size = (prompt.tokens.length * (prompt.tokens.length + 1)) / 2;
    return prompt.numbers.slice(index * size, (index + 1) * size).map((weight) => weight / prompt.unit);
  }
  const cellAt = (dest, src) => (dest * (dest + 1)) / 2 + src;

  const readable = (token) => token.replaceAll("\n", "↵").replaceAll("\t", "⇥").trim() || "␣";
  const short = (token) => {
    const letters = [...readable(token)];
    return letters.length > 9 ? `${letters.slice(0, 8).join("")}…` : letters.join("");
  };

  function attention(prompt, index, name) {
    const weights = weightsOf(prompt, index), count = prompt.tokens.length;
    const side = 260, room = 64, cell = side / count, font = Math.min(10.5, 0.95 * cell);
    const label = (token, position, x, y, turn) => svg("text", {
      x, y, "font-size": font, "text-anchor": "end", "dominant-baseline": "central",
      transform: turn ? `rotate(-90 ${x} ${y})` : null,
      class: turn ? "atlas-src" : "atlas-dest", "data-position": position,
    }, short(token));
    const middle = (position) => (position + 0.5) * cell;
    const rows = prompt.tokens.map((_, row) => `M${room} ${row * cell}h${(row + 1) * cell}v${cell}H${room}z`);
    const frame = svg("rect", { class: "atlas-frame", width: cell, height: cell });
    const drawing = svg("svg", { viewBox: `0 0 ${room + side + 1} ${side + room}`, "aria-hidden": "true" },
      svg("path", { class: "atlas-ground", d: rows.join("") }));
    prompt.tokens.forEach((token, dest) => {
      for (let src = 0; src <= dest; src++) {
        drawing.append(svg("rect", {
          class: "atlas-cell", x: room + src * cell, y: dest * cell, width: cell, height: cell,
          "fill-opacity": Math.sqrt(weights[cellAt(dest, src)]).toFixed(3),
          "data-dest": dest, "data-src": src,
        }));
      }
      drawing.append(
        label(token, dest, room - 4, middle(dest), false),
        label(token, dest, room + middle(dest), side + 4, true));
    });
    drawing.append(frame);

    const said = html("p", { class: "atlas-said", "aria-live": "polite" });
    let chosen = [0, 0];
    function choose(dest, src) {
      chosen = [dest, src];
      frame.setAttribute("x", room + src * cell);
      frame.setAttribute("y", dest * cell);
      for (const text of drawing.querySelectorAll("text")) {
        const own = text.classList.contains("atlas-dest") ? dest : src;
        text.classList.toggle("atlas-chosen", +text.dataset.position === own);
      }
      const token = (position) => html("span", {},
        html("b", {}, readable(prompt.tokens[position])), html("sub", {}, position));
      said.replaceChildren(token(dest), " → ", token(src), html("br"),
        html("strong", {}, weights[cellAt(dest, src)].toFixed(3)));
    }
    function strongest() {
      let best = [0, 0];
      for (let dest = 1; dest < count; dest++)
        for (let src = 1; src < dest; src++)
          if (!best[1] || weights[cellAt(dest, src)] > weights[cellAt(...best)]) best = [dest, src];
      return best;
    }
    const pointed = ({ target: { dataset } }) => {
      if (dataset.src) choose(+dataset.dest, +dataset.src);
    };
    const steps = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] };
    const view = html("div", {
      class: "atlas-pattern", tabindex: 0, role: "group", onpointermove: pointed, onpointerdown: pointed,
      "aria-label": `${prompt.title}: attention of ${name}; arrow keys go from cell to cell`,
      onkeydown: (event) => {
        if (!(event.key in steps)) return;
        event.preventDefault();
        const [down, right] = steps[event.key];
        const dest = clamp(chosen[0] + down, 0, count - 1);
        choose(dest, clamp(chosen[1] + right, 0, dest));
      },
    }, drawing, said);
    choose(...strongest());
    return html("figure", {},
      html("figcaption", {}, html("b", {}, prompt.title), html("br"), prompt.shows), view);
  }

  const legend = () => html("p", { class: "atlas-legend" },
    "Rows attend to columns. Weight 0 ", html("span", { class: "atlas-scale" }),
    " 1, colour by its square root. ",
    "Framed at first: the strongest, but for the first token and a token's own.");

  // --- a head's card ------------------------------------------------------------------------------

  /* All heads as ticks on one line, with the null dashed and this head marked. */
  function strip(entry, index) {
    const lowest = Math.min(...entry.values, entry.null_value ?? Infinity);
    const highest = Math.max(...entry.values, entry.null_value ?? -Infinity);
    const at = (value) => (2 + (96 * (value - lowest)) / (highest - lowest || 1)).toFixed(2);
    const shape = { viewBox: "0 0 100 14", preserveAspectRatio: "none", "aria-hidden": "true" };
    return svg("svg", { class: "atlas-strip", ...shape },
      svg("path", { class: "atlas-all", d: entry.values.map((value) => `M${at(value)} 4v6`).join("") }),
      entry.null_value === undefined ? "" :
        svg("path", { class: "atlas-null", d: `M${at(entry.null_value)} 1v12` }),
      svg("path", { class: "atlas-this", d: `M${at(entry.values[index])} 1v12` }));
  }

  function scoreEntry(score, entry, index) {
    const count = entry.values.length, rank = entry.ranks[index];
    const extreme = rank <= 10 || (entry.values[index] < 0 && rank > count - 10);
    const error = !entry.errors ? "" : entry.samples === 1 ? " exact" : ` ± ${number(entry.errors[index])}`;
    const facts = ["formula", "range", "null", "source"].filter((name) => entry[name]).flatMap((name) => [
      html("dt", {}, name),
      html("dd", {}, ...prose(entry[name]),
        name === "null" && entry.null_value ? ` Here ${number(entry.null_value)}.` : "")]);
    return html("details", { class: "atlas-score", "data-score": score },
      html("summary", { class: extreme ? "atlas-extreme" : "" },
        html("span", { class: "atlas-name" }, score),
        html("span", { class: "atlas-number" }, number(entry.values[index]), html("small", {}, error)),
        strip(entry, index),
        html("span", { class: "atlas-rank" }, `${rank} of ${count}`)),
      html("p", {}, ...prose(entry.meaning)), html("dl", {}, ...facts));
  }

  function similar(model, index) {
    const others = [model, ...data.models.filter((other) => other !== model)];
    const lines = others.filter((other) => model.similar[other.stem][index].length).map((other) =>
      html("li", {}, other === model ? "here: " : `in ${other.model}: `,
        ...model.similar[other.stem][index].flatMap(([name, apart], place) =>
          [place ? ", " : "", headLink(other, name), ` (${apart.toFixed(3)})`])));
    return html("section", {}, html("h3", {}, "Most similar heads"),
      html("p", { class: "atlas-hint" },
        "By score profile, over the scores that both models have. 0 is the same profile."),
      html("ul", {}, ...lines));
  }

  function card(model, index) {
    const name = model.heads[index];
    const [layer, head] = name.slice(1).split("H");
    const chips = kindChips(model, index);
    const pictures = model.prompts.length
      ? [html("div", { class: "atlas-pictures" },
        ...model.prompts.map((prompt) => attention(prompt, index, name))), legend()]
      : [html("p", { class: "atlas-note" }, model.measured
        ? "No attention pictures: none were made for this model."
        : "No attention pictures: these scores were published, not measured here.")];
    return [
      html("header", {},
        html("div", {}, html("h2", { id: "atlas-title" }, name),
          html("p", {}, `${model.model}: layer ${layer}, head ${head}`)),
        html("button", {
          type: "button", class: "atlas-close", "aria-label": "Close", onclick: () => dialog.close(),
        }, "×")),
      html("p", { class: "atlas-kinds" }, ...(chips.length ? chips : ["of no known kind"])),
      html("section", {}, html("h3", {}, "Attention"), ...pictures),
      html("section", {}, html("h3", {}, "Scores"),
        html("p", { class: "atlas-hint" },
          "All heads as ticks, this one in colour, the null dashed; its rank counts from the highest. ",
          "Open a score to read what it means."),
        html("div", { class: "atlas-scores" },
          ...Object.entries(model.scores).map(([score, entry]) => scoreEntry(score, entry, index)))),
      similar(model, index),
    ];
  }

  const sheet = html("div", { class: "atlas-sheet" });
  const dialog = html("dialog", {
    class: "atlas-card", "aria-labelledby": "atlas-title",
    onclick: (event) => { if (event.target === dialog) dialog.close(); },
    // Sphinx's own shortcut for Escape would keep the dialog from closing.
    onkeydown: (event) => { if (event.key === "Escape") event.stopPropagation(); },
    onclose: () => {
      if (headAt(location.hash)) history.replaceState(null, "", location.pathname + location.search);
    },
  }, sheet);

  function followAddress() {
    const found = headAt(location.hash);
    if (!found) return dialog.close();
    if (found.model !== state.model) chooseModel(found.model);
    sheet.replaceChildren(...card(found.model, found.index));
    if (!dialog.open) dialog.showModal();
    dialog.scrollTop = 0;
  }

  // --- the page -----------------------------------------------------------------------------------

  options(modelChoice, data.models.map((model) => [model.stem, model.model]));
  root.replaceChildren(
    html("div", { class: "atlas-controls", role: "search" },
      field("Model", modelChoice), field("Find a head", search), field("Kind", kindChoice),
      field("Score", scoreChoice), field("at least", low), field("at most", high),
      html("button", { type: "button", onclick: reset }, "Reset")),
    note, status,
    html("div", { class: "atlas-frame-of-table", tabindex: 0, role: "region", "aria-label": "Heads" }, table),
    dialog);
  chooseModel(state.model);
  addEventListener("hashchange", followAddress);
  followAddress();
})();
