"use strict";
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const form = document.querySelector(".filter");
  const split = document.getElementById("filter-split");
  const category = document.getElementById("filter-category");
  const count = document.getElementById("filter-count");
  const items = [...document.querySelectorAll(".tiles li")];
  const viewer = document.getElementById("viewer");
  const byId = (name) => document.getElementById(name);

  function has(list, value) {
    return value === "" || list.split(" ").includes(value);
  }

  function filter() {
    const wanted = { split: split.value, label: category ? category.value : "" };
    let shown = 0;
    for (const item of items) {
      item.hidden = !(has(item.dataset.splits, wanted.split) && has(item.dataset.labels, wanted.label));
      shown += !item.hidden;
    }
    for (const list of document.querySelectorAll(".tiles")) {
      list.nextElementSibling.hidden = [...list.children].some((item) => !item.hidden);
    }
    for (const part of document.querySelectorAll("#charts [data-split]")) {
      part.classList.toggle("dim", !has(part.dataset.split, wanted.split));
    }
    const all = items.length.toLocaleString("en");
    count.textContent = `${shown.toLocaleString("en")} of ${all} pictures`;
  }

  function fact(name, value) {
    if (value === "" || value === null) return;
    const term = document.createElement("dt");
    const text = document.createElement("dd");
    term.textContent = name;
    text.textContent = value;
    byId("viewer-facts").append(term, text);
  }

  function cell(row, kind, text, scope) {
    const made = document.createElement(kind);
    made.textContent = text;
    if (scope) made.scope = scope;
    row.append(made);
    return made;
  }

  // The first cell of an object, with the colour that it has on the picture.
  function head(row, text, colour) {
    const mark = document.createElement("span");
    mark.className = `mark ${colour}`;
    cell(row, "th", text, "row").prepend(mark);
  }

  function box(row, picture, values, i) {
    const label = picture.labels[i];
    head(row, data.names[label] ?? i + 1, `c${Math.max(0, label) % 6}`);
    for (const value of values) cell(row, "td", value);
  }

  const visibilities = ["not labelled", "hidden", "visible"];

  function point(row, picture, [x, y, visibility], i) {
    head(row, picture.point_names[i] ?? i + 1, visibility > 1 ? "visible" : visibility > 0 ? "hidden-point" : "");
    for (const value of visibility ? [x, y] : ["", ""]) cell(row, "td", value);
    cell(row, "td", visibilities[visibility] ?? visibility);
  }

  function objects(picture) {
    const place = byId("viewer-objects");
    place.replaceChildren();
    place.hidden = !picture.values.length;
    if (place.hidden) return;
    const table = document.createElement("table");
    const more = picture.count - picture.values.length;
    const pixels = picture.size ? "the photograph" : "the stored image";
    table.createCaption().textContent =
      `${picture.points ? "Points" : "Boxes"} in pixels of ${pixels}` + (more > 0 ? `; ${more} more are not listed` : "");
    const heads = table.createTHead().insertRow();
    const names = picture.points ? ["point", "x", "y", "visibility"] : ["object", "x1", "y1", "x2", "y2"];
    for (const name of names) cell(heads, "th", name, "col");
    const body = table.createTBody();
    picture.values.forEach((values, i) => {
      (picture.points ? point : box)(body.insertRow(), picture, values, i);
    });
    place.append(table);
  }

  let current = null;
  const visible = () => items.filter((item) => !item.hidden).map((item) => item.firstElementChild);

  function show(button) {
    current = button;
    const picture = data.pictures[button.dataset.picture];
    const frame = button.querySelector(".frame").cloneNode(true);
    const image = frame.querySelector("img");
    frame.style.setProperty("--ratio", image.getAttribute("width") / image.getAttribute("height"));
    document.querySelector(".viewer-picture").replaceChildren(frame);
    byId("viewer-title").textContent = picture.path;
    byId("viewer-facts").replaceChildren();
    fact("Shown as", picture.sheet);
    fact("Note", picture.note);
    fact("Split", picture.splits.join(" and "));
    fact("Row", picture.row < 0 ? "not stored" : `${picture.row.toLocaleString("en")} of ${picture.file}`);
    fact("Photograph", picture.size ? `${picture.size[1]} x ${picture.size[0]} pixels` : "");
    fact("Category", picture.points ? data.names[picture.labels[0]] ?? "" : "");
    const all = picture.count.toLocaleString("en");
    fact("Drawn", picture.drawn < picture.count ? `the first ${picture.drawn.toLocaleString("en")} of ${all}` : "");
    objects(picture);
    const buttons = visible();
    byId("viewer-back").disabled = buttons[0] === button;
    byId("viewer-next").disabled = buttons[buttons.length - 1] === button;
    if (!viewer.open) viewer.showModal();
  }

  function step(by) {
    const buttons = visible();
    const next = buttons[buttons.indexOf(current) + by];
    if (next) show(next);
  }

  document.addEventListener("click", (event) => {
    const button = event.target.closest(".tile");
    if (button) show(button);
    else if (event.target === viewer) viewer.close();
  });
  byId("viewer-close").addEventListener("click", () => viewer.close());
  byId("viewer-back").addEventListener("click", () => step(-1));
  byId("viewer-next").addEventListener("click", () => step(1));
  // Not on the viewer: some browsers send it no keys while a disabled button has the focus.
  document.addEventListener("keydown", (event) => {
    if (!viewer.open || event.target.id === "viewer-objects") return; // whose own keys scroll it
    if (event.key === "ArrowLeft") step(-1);
    if (event.key === "ArrowRight") step(1);
  });
  viewer.addEventListener("close", () => current && current.focus());
  form.addEventListener("change", filter);
  form.addEventListener("submit", (event) => event.preventDefault());
  form.addEventListener("reset", () => setTimeout(filter));
  form.hidden = false;
  filter();
})();
