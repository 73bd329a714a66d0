"""The networks of the papers, built by name: `MODELS.build("cnn(width=8)", classes=10, input_shape=(1, 8, 8))`."""
