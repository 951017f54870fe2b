// Desktop notification when the watched run ends, for users who turned it on. Knows nothing of run states.

const NOTICE_KEY = "sft-studio-end-notice";

function makeEndNotice(button) {
  const can = "Notification" in window;
  const notice = {
    on: can && localStorage.getItem(NOTICE_KEY) === "on" && Notification.permission === "granted",
    refused: false,
  };
  const show = () => {
    button.setAttribute("aria-pressed", notice.on);
    button.textContent = notice.refused
      ? "This browser blocks notifications of this page"
      : notice.on
        ? "You will be notified"
        : "Notify me when it ends";
  };
  button.addEventListener("click", async () => {
    const wanted = !notice.on;
    const allowed = wanted && can && (await Notification.requestPermission()) === "granted";
    notice.on = allowed;
    notice.refused = wanted && !allowed;
    localStorage.setItem(NOTICE_KEY, notice.on ? "on" : "off");
    show();
  });
  notice.offer = (live) => {
    button.hidden = !live;
  };
  notice.tell = (name, words) => {
    if (notice.on) new Notification(`${words}: ${name}`, { tag: name, body: "SFT Studio" });
  };
  show();
  return notice;
}
