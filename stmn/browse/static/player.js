"use strict";
// Frames and flow of a video in step: a slider, and a button that plays.
const player = document.getElementById("player");
const slider = document.getElementById("time");
const play = document.getElementById("play");
const pictures = ["frame", "flow"].map((kind) => document.getElementById(kind)).filter(Boolean);
const fps = Number(player.dataset.fps) || 25;
let timer = null;

function show(time) {
  for (const picture of pictures) {
    picture.src = `/${picture.id}?${new URLSearchParams({ id: player.dataset.id, t: time })}`;
  }
  document.getElementById("at").textContent = `${time} (${(time / fps).toFixed(2)} s)`;
}

function stop() {
  clearInterval(timer);
  timer = null;
  play.textContent = "Play";
}

play.addEventListener("click", () => {
  if (timer) return stop();
  play.textContent = "Pause";
  timer = setInterval(() => {
    if (pictures.some((picture) => !picture.complete)) return; // the pictures are still coming
    slider.value = Number(slider.value) < Number(slider.max) ? Number(slider.value) + 1 : 0;
    show(Number(slider.value));
  }, 1000 / fps);
});
slider.addEventListener("input", () => {
  if (timer) stop();
  show(Number(slider.value));
});
