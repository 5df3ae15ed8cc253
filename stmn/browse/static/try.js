"use strict";
// A clip that is dropped, chosen or recorded goes to the server, which answers with classes along time and an overlay.
const state = document.getElementById("state");
const result = document.getElementById("result");
const drop = document.getElementById("drop");

function cell(row, text, kind = "td") {
  const made = document.createElement(kind);
  made.textContent = text;
  row.append(made);
}

function percent(score) {
  return `${(100 * score).toFixed(1)} %`;
}

function fill(table, rows) {
  table.replaceChildren(
    ...rows.map(([head, ...cells]) => {
      const row = document.createElement("tr");
      cell(row, head, "th");
      for (const text of cells) cell(row, text);
      return row;
    }),
  );
}

async function classify(clip, name) {
  result.hidden = true;
  state.className = "";
  state.textContent = `Classifying ${name} …`;
  let found;
  try {
    const answer = await fetch("/classify", { method: "POST", body: clip });
    found = await answer.json();
  } catch (error) {
    found = { error: "the server doesn't answer; is stmn browse still running?" };
  }
  if (found.error) {
    state.className = "wrong";
    state.textContent = `${name}: ${found.error}`;
    return;
  }
  state.textContent = `${name}: ${found.classes[0][0]}, ${percent(found.classes[0][1])}`;
  document.getElementById("overlay").src = `/overlay/${found.overlay}`;
  fill(document.getElementById("classes"), found.classes.map(([name, score]) => [name, percent(score)]));
  fill(
    document.querySelector("#windows tbody"),
    found.windows.map(({ start, end, classes: [[name, score]] }) => [
      `${start.toFixed(2)} to ${end.toFixed(2)}`, name, percent(score),
    ]),
  );
  document.getElementById("notes").replaceChildren(
    ...found.notes.map((line) => {
      const item = document.createElement("li");
      item.textContent = line;
      return item;
    }),
  );
  result.hidden = false;
}

document.getElementById("file").addEventListener("change", (event) => {
  const [file] = event.target.files;
  if (file) classify(file, file.name);
});
for (const kind of ["dragenter", "dragover"]) {
  drop.addEventListener(kind, (event) => {
    event.preventDefault();
    drop.classList.add("over");
  });
}
drop.addEventListener("dragleave", () => drop.classList.remove("over"));
drop.addEventListener("drop", (event) => {
  event.preventDefault();
  drop.classList.remove("over");
  const [file] = event.dataTransfer.files;
  if (file) classify(file, file.name);
});

document.getElementById("webcam").addEventListener("click", async () => {
  state.className = "";
  let camera;
  try {
    camera = await navigator.mediaDevices.getUserMedia({ video: { width: 320 }, audio: false });
  } catch (error) {
    state.className = "wrong";
    state.textContent = `no camera: ${error.message}`;
    return;
  }
  const recorder = new MediaRecorder(camera);
  const parts = [];
  recorder.addEventListener("dataavailable", (event) => parts.push(event.data));
  recorder.addEventListener("stop", () => {
    camera.getTracks().forEach((track) => track.stop());
    classify(new Blob(parts), "the recording");
  });
  state.textContent = "Recording …";
  recorder.start();
  setTimeout(() => recorder.stop(), 4000);
});
