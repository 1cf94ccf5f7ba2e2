"use strict";
(() => {
  const { sizes, tensors, names } = JSON.parse(document.getElementById("data").textContent);
  const chips = [...document.querySelectorAll(".chip")];
  const boxes = [...document.querySelectorAll("g.box")];
  const groupsOf = new Map(boxes.map((box) => [box, box.dataset.groups.split(" ").filter(Boolean).map(Number)]));
  const fields = ["keep", "only"].map((id) => document.getElementById(id));
  const effect = document.getElementById("effect");
  const command = document.getElementById("command");
  const hint = command.textContent.replace(/ Needs scripts.*/, "");
  let chosen = null;
  let frozen = new Set();

  // As Python's fnmatch does for a pattern of a shell.
  const pattern = (text) => {
    let out = "";
    for (let at = 0; at < text.length; at += 1) {
      const end = text.indexOf("]", text[at + 1] === "!" ? at + 3 : at + 2);
      if (text[at] === "*") out += ".*";
      else if (text[at] === "?") out += ".";
      else if (text[at] === "[" && end > 0) {
        const inside = text.slice(at + 1, end).replace(/\\/g, "\\\\").replace(/^\^/, "\\^").replace(/^!/, "^");
        out += `[${inside}]`;
        at = end;
      } else out += text[at].replace(/[.*+?^${}()|[\]\\]/g, "\\$&");
    }
    try {
      return new RegExp(`^(?:${out})$`, "s");
    } catch {
      return /^(?!)/;
    }
  };
  const matches = (called, patterns) => patterns.some((one) => called.some((name) => one.test(name)));

  const show = () => {
    chips.forEach((chip, group) => {
      chip.setAttribute("aria-pressed", String(group === chosen));
      chip.classList.toggle("frozen", frozen.has(group));
    });
    boxes.forEach((box) => {
      const groups = groupsOf.get(box);
      const left = groups.filter((group) => !frozen.has(group));
      box.classList.toggle("chosen", chosen !== null && groups.includes(chosen));
      box.classList.toggle("dim", chosen !== null ? !groups.includes(chosen) : groups.length > 0 && !left.length);
    });
  };

  const tried = () => {
    const [keep, only] = fields.map((field) => field.value.split(/\s+/).filter(Boolean));
    const [kept, allowed] = [keep, only].map((texts) => texts.map(pattern));
    frozen = new Set();
    tensors.forEach(([called, groups]) => {
      if (matches(called, kept) || (allowed.length && !matches(called, allowed))) groups.forEach((one) => frozen.add(one));
    });
    const total = sizes.reduce((sum, size) => sum + size, 0);
    const left = sizes.reduce((sum, size, group) => sum + (frozen.has(group) ? 0 : size), 0);
    const unknown = [...keep, ...only].filter((text) => !names.some((name) => pattern(text).test(name)));
    const quoted = (option, texts) => texts.map((text) => ` --${option} '${text}'`).join("");
    effect.textContent = unknown.length
      ? `No layer or parameter is called ${unknown.join(" or ")}`
      : keep.length || only.length ? `${left} of ${total} channels can still go` : "";
    command.textContent = keep.length || only.length
      ? `smartc compile MODEL --target T -o BUILD${quoted("keep", keep)}${quoted("only", only)}`
      : hint;
    show();
  };

  document.getElementById("names").append(...names.map((name) => new Option(name)));
  fields.forEach((field) => field.addEventListener("input", tried));
  chips.forEach((chip, group) => chip.addEventListener("click", () => {
    chosen = chosen === group ? null : group;
    show();
    const first = boxes.find((box) => groupsOf.get(box).includes(chosen));
    if (first) {
      const block = first.closest("details");
      block.open = true;
      block.scrollIntoView({ block: "nearest" });
    }
  }));
  boxes.forEach((box) => box.addEventListener("click", () => {
    const groups = groupsOf.get(box);
    chosen = groups.length ? groups[(groups.indexOf(chosen) + 1) % groups.length] : null;
    show();
  }));
  tried();
})();
