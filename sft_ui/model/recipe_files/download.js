// Saves the form as a YAML file; the value holds its name and text. In scope from gr.HTML: element, props, watch.

const button = element.querySelector("button");

function ready() {
  button.disabled = !props.value;
}

button.addEventListener("click", () => {
  const { name, text } = JSON.parse(props.value);
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([text], { type: "application/yaml" }));
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
});
watch("value", ready);
ready();
