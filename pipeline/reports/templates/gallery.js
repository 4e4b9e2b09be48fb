"use strict";
// The gallery of a page. Names and keys are other people's text: they are set as textContent, never as HTML.
(() => {
  const { images, classes, reasons, layers } = JSON.parse(document.getElementById("data").textContent);
  const sorts = {
    chosen: () => 0,
    unsure: (a, b) => (a.confidence ?? 2) - (b.confidence ?? 2),
    sure: (a, b) => (b.confidence ?? -1) - (a.confidence ?? -1),
    share: (a, b) => shareOf(b) - shareOf(a),
    disagreement: (a, b) => (b.disagreement ?? -1) - (a.disagreement ?? -1),
    key: (a, b) => (a.key < b.key ? -1 : Number(a.key > b.key)),
  };
  const unset = {
    why: "", class: "", sort: "chosen", opacity: "60", wipe: "50",
    left: "before" in layers ? "before" : "image", right: "after", key: "",
  };
  let state = { ...unset };
  let shown = [];

  const byId = (id) => document.getElementById(id);
  const percent = (share) => {
    if (share === null || share === undefined) return "–";
    return share > 0 && share < 0.0005 ? "< 0.1 %" : `${(100 * share).toFixed(1)} %`;
  };
  const within = (value, most) => String(Math.min(Math.max(Number(value) || 0, 0), most));

  function shareOf(image) {
    if (state.class !== "") return image.classes.find(([id]) => String(id) === state.class)?.[1] ?? 0;
    return Math.max(0, ...image.classes.map(([, share]) => share));
  }

  function element(tag, properties = {}, ...children) {
    const made = Object.assign(document.createElement(tag), properties);
    made.append(...children);
    return made;
  }

  function fill(id, options) {
    byId(id).replaceChildren(...options.map(([value, text]) => element("option", { value, textContent: text })));
  }

  // The state is the address behind the #, so that a link keeps it.
  function readAddress() {
    const asked = Object.fromEntries(new URLSearchParams(location.hash.slice(1)));
    state = { ...unset };
    for (const name of Object.keys(unset)) if (name in asked) state[name] = asked[name];
    if (!(state.why in reasons)) state.why = "";
    if (!(Number(state.class) in classes) || state.class === "") state.class = "";
    if (!Object.hasOwn(sorts, state.sort)) state.sort = unset.sort;
    for (const side of ["left", "right"]) if (!Object.hasOwn(layers, state[side])) state[side] = unset[side];
    state.opacity = within(state.opacity, 100);
    state.wipe = within(state.wipe, 100);
  }

  function writeAddress() {
    const changed = Object.entries(state).filter(([name, value]) => value !== unset[name]);
    history.replaceState(null, "", `#${new URLSearchParams(changed)}`);
  }

  function change(changes) {
    state = { ...state, ...changes };
    writeAddress();
    show(Object.keys(changes).some((name) => ["why", "class", "sort"].includes(name)));
  }

  function show(anew) {
    for (const name of ["why", "class", "sort", "opacity", "left", "right", "wipe"]) byId(name).value = state[name];
    byId("viewer-opacity").value = state.opacity;
    byId("opacity-value").textContent = `${state.opacity} %`;
    document.documentElement.style.setProperty("--opacity", Number(state.opacity) / 100);
    if (anew) {
      const fits = (image) =>
        (state.why === "" || image.reasons.includes(state.why)) &&
        (state.class === "" || image.classes.some(([id]) => String(id) === state.class));
      shown = images.filter(fits).sort(sorts[state.sort]);
      byId("grid").replaceChildren(...shown.map(card));
      byId("count").textContent = `${shown.length} of ${images.length} shown`;
    }
    showViewer();
  }

  function card(image) {
    const picture = element("span", { className: image.image ? "picture" : "picture alone" });
    if (image.image) picture.append(element("img", { src: image.image, alt: "", loading: "lazy" }));
    picture.append(element("img", { src: image.after, alt: "", className: "mask" }));
    const words = [`confidence ${percent(image.confidence)}`];
    if (state.class !== "") words.push(`${classes[state.class].name} ${percent(shareOf(image))}`);
    if (image.disagreement !== null) words.push(`${percent(image.disagreement)} differ`);
    const button = element("button", { type: "button", className: "card" }, picture, element("span", { className: "words" },
      element("span", { className: "key", textContent: image.key }),
      element("span", { className: "small", textContent: words.join(", ") })));
    button.addEventListener("click", () => change({ key: image.key }));
    return element("li", {}, button);
  }

  function showViewer() {
    const viewer = byId("viewer");
    const image = state.key === "" ? undefined : images.find((other) => other.key === state.key);
    if (!image) {
      if (viewer.open) viewer.close();
      return;
    }
    const at = shown.indexOf(image);
    byId("viewer-key").textContent = image.key;
    byId("viewer-place").textContent = at < 0 ? "not among those shown" : `${at + 1} of ${shown.length}`;
    byId("viewer-problem").textContent = image.image ? "" : `No picture: ${image.problem}`;
    const words = [`confidence ${percent(image.confidence)}`, `${image.width} × ${image.height} pixels`];
    if (image.disagreement !== null) words.push(`${percent(image.disagreement)} of them differ between the masks`);
    byId("viewer-words").textContent = `${words.join(", ")}. Chosen for: ${image.reasons.map((r) => reasons[r]).join("; ")}.`;
    byId("viewer-classes").replaceChildren(...image.classes.map(([id, share, confidence]) => element("li", {},
      swatch(classes[id].colour), element("span", { textContent: classes[id].name }),
      element("span", { className: "figure", textContent: `${percent(share)}, confidence ${percent(confidence)}` }))));
    const stage = byId("stage");
    stage.style.aspectRatio = `${image.width} / ${image.height}`;
    stage.style.maxWidth = `calc(72vh * ${image.width / image.height})`;
    stage.classList.toggle("alone", !image.image);
    layer("base", image.image);
    layer("left-mask", state.left === "image" ? "" : image[state.left]);
    layer("right-mask", state.right === "image" ? "" : image[state.right]);
    byId("left-mask").style.clipPath = `inset(0 ${100 - state.wipe}% 0 0)`;
    byId("right-mask").style.clipPath = `inset(0 0 0 ${state.wipe}%)`;
    byId("line").style.left = `${state.wipe}%`;
    if (!viewer.open) viewer.showModal();
  }

  function layer(id, source) {
    const img = byId(id);
    img.hidden = !source;
    if (source) img.src = source;
    else img.removeAttribute("src");
  }

  function swatch(colour) {
    const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
    const rect = document.createElementNS("http://www.w3.org/2000/svg", "rect");
    for (const [name, value] of Object.entries({ width: 14, height: 14, "aria-hidden": "true" })) svg.setAttribute(name, value);
    for (const [name, value] of Object.entries({ x: 0.5, y: 0.5, width: 13, height: 13, rx: 2, fill: colour, class: "swatch" }))
      rect.setAttribute(name, value);
    svg.append(rect);
    return svg;
  }

  function step(by) {
    const at = shown.findIndex((image) => image.key === state.key);
    const next = shown[Math.min(Math.max(at + by, 0), shown.length - 1)];
    if (next) change({ key: next.key });
  }

  function closed() {
    const { key } = state;
    if (key === "") return;
    change({ key: "" });
    byId("grid").children[shown.findIndex((image) => image.key === key)]?.firstChild.focus();
  }

  const moves = {
    ArrowLeft: () => step(-1),
    ArrowRight: () => step(1),
    Home: () => step(-shown.length),
    End: () => step(shown.length),
    "[": () => change({ wipe: within(Number(state.wipe) - 10, 100) }),
    "]": () => change({ wipe: within(Number(state.wipe) + 10, 100) }),
    "-": () => change({ opacity: within(Number(state.opacity) - 10, 100) }),
    "+": () => change({ opacity: within(Number(state.opacity) + 10, 100) }),
  };

  function typed(event) {
    if (event.ctrlKey || event.altKey || event.metaKey || event.target.matches("input, select")) return;
    if (Object.hasOwn(moves, event.key)) {
      event.preventDefault();
      moves[event.key]();
    }
  }

  function typedInGrid(event) {
    const by = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    const item = event.target.closest("li");
    if (!by || !item) return;
    event.preventDefault();
    (by < 0 ? item.previousElementSibling : item.nextElementSibling)?.firstChild.focus();
  }

  function drag(event) {
    if (event.type === "pointermove" && event.buttons !== 1) return;
    const box = byId("stage").getBoundingClientRect();
    change({ wipe: within(Math.round((100 * (event.clientX - box.left)) / box.width), 100) });
  }

  async function copy() {
    try {
      await navigator.clipboard.writeText(location.href);
      byId("count").textContent = "link copied";
    } catch {
      byId("count").textContent = "copy the address of this page: it keeps what is chosen";
    }
  }

  fill("why", [["", "any"], ...Object.entries(reasons).filter(([name]) => images.some((i) => i.reasons.includes(name)))]);
  fill("class", [["", "any"], ...classes.map(({ name }, id) => [String(id), name])]);
  for (const side of ["left", "right"]) fill(side, Object.entries(layers));
  for (const name of ["why", "class", "sort", "left", "right"])
    byId(name).addEventListener("change", (event) => change({ [name]: event.target.value }));
  for (const [id, name] of [["opacity", "opacity"], ["viewer-opacity", "opacity"], ["wipe", "wipe"]])
    byId(id).addEventListener("input", (event) => change({ [name]: event.target.value }));
  byId("previous").addEventListener("click", () => step(-1));
  byId("next").addEventListener("click", () => step(1));
  byId("close").addEventListener("click", () => byId("viewer").close());
  byId("copy").addEventListener("click", copy);
  byId("viewer").addEventListener("close", closed);
  byId("viewer").addEventListener("keydown", typed);
  byId("grid").addEventListener("keydown", typedInGrid);
  byId("stage").addEventListener("pointerdown", drag);
  byId("stage").addEventListener("pointermove", drag);
  window.addEventListener("hashchange", () => { readAddress(); show(true); });
  readAddress();
  show(true);
})();
