"""What the support chats are made of: customers' problems and how a small shop answers.

Only words: putting the chats together is not done here.
"""

SYSTEM = (
    "You are the support assistant of Hillpath, a small shop for outdoor gear. "
    "Be warm and brief, say what happens next, and never promise what you cannot check."
)
CUSTOMERS = (
    "Ada Ben Chiara Dev Eleni Finn Gita Hassan Isla Joao Kira Liam Mona Nils Ola Pia".split()
)
PRODUCTS = (
    "rain jacket", "water filter", "tent for two", "sleeping bag", "head lamp", "camping mat",
    "water bottle", "camping stove", "day pack", "wool scarf", "dry bag", "sun hat",
    "climbing rope", "fleece pullover",
)  # fmt: skip
GREETINGS = ("Hello!", "Hi there,", "Good morning,", "Hi,", "Hello, I hope you can help.")
THANKS = (
    "Thank you, that helps.", "Great, thanks a lot!", "Perfect, thank you.", "That is kind of you.",
    "Okay, thanks for the quick answer.",
)  # fmt: skip
CLOSINGS = (
    "You are welcome, {name}. Enjoy the outdoors!",
    "Gladly, {name}. Write to us any time.",
    "My pleasure, {name}. Have a good day outside!",
)

# topic: how the customer begins, what we ask, what the customer says, what happens next
TOPICS = {
    "late parcel": (
        ("my {product} should have come {days} days ago. Where is it?",
         "I am still waiting for the {product} I ordered. It is {days} days late."),
        "I am sorry that your {product} is late. Could you send me the order number, please?",
        "It is {order}.",
        "Thank you, {name}. I have asked the carrier about order {order}. You will get an e-mail "
        "within one working day; if the parcel is lost, we send a new {product} at no cost.",
    ),
    "wrong size": (
        ("the {product} does not fit me. Can I swap it for another size?",
         "I chose the wrong size for the {product}. What can I do?"),
        "Of course, swapping is free within 30 days. Which order is it, and which size "
        "do you need?",
        "Order {order}, one size {direction} please.",
        "Noted, {name}: order {order}, one size {direction}. A return label is on its way to your "
        "inbox, and the new {product} leaves as soon as the label is scanned.",
    ),
    "broken": (
        ("my {product} broke after {days} days of use.",
         "the {product} I bought is already damaged, after only {days} days."),
        "That should not happen, and I am sorry. Could you give me the order number and a short "
        "description of the damage?",
        "Order {order}. The {part} came off.",
        "Thank you, {name}. A torn-off {part} is covered by our two-year warranty. Please keep the "
        "{product}; I will send you a label for the repair of order {order} today.",
    ),
    "refund": (
        ("I sent back the {product} {days} days ago and have no refund yet.",
         "when will I get the money for the {product} I returned?"),
        "I understand that you want to know. May I have the order number of the return?",
        "Sure: {order}.",
        "Thank you, {name}. Refunds for returns like {order} take up to {limit} working days "
        "after the parcel arrives. If nothing is there by then, write to me and I will check.",
    ),
    "address": (
        ("I moved, and my {product} is still to be sent. Can you change the address?",
         "please send my {product} to a new address."),
        "I can change it as long as the parcel has not left. What is the order number?",
        "{order}, and the new town is {town}.",
        "Thank you, {name}. Order {order} has not left yet. Please enter the full address in "
        "{town} through the link I just sent you; this keeps your data safe.",
    ),
    "cancel": (
        ("I want to cancel my order of the {product}.",
         "can I still cancel the {product}? I ordered it {days} hours ago."),
        "Yes, if it is not packed yet. Could you tell me the order number?",
        "It is number {order}.",
        "Done, {name}: order {order} is cancelled and nothing will be charged. The confirmation "
        "for the {product} is in your inbox.",
    ),
    "care": (
        ("how do I clean the {product}?", "what is the best way to look after the {product}?"),
        "Good question! Is it only dusty, or are there stains from {stain}?",
        "There are stains from {stain}.",
        "Then use lukewarm water and a drop of mild soap, {name}, and let the {product} dry in the "
        "shade. Please leave out bleach and softener: they harm the material.",
    ),
    "stock": (
        ("is the {product} available again soon?", "your page says the {product} is sold out."),
        "I can look that up. Which colour would you like?",
        "In {colour}, please.",
        "The {product} in {colour} is not in stock today, {name}, and I cannot promise a date. "
        "Leave your e-mail on its page and we will write as soon as it is back.",
    ),
}  # fmt: skip
CHOICES = {
    "direction": ("up", "down"), "part": ("strap", "zip", "buckle", "handle"),
    "town": ("Freiburg", "Graz", "Utrecht", "Leeds", "Bergen", "Turin"),
    "stain": ("mud", "grass", "resin", "soot"), "colour": ("green", "blue", "red", "grey"),
    "limit": ("5", "7", "10"),
}  # fmt: skip
