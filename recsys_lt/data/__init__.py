"""Source -> interactions -> ragged sequences -> packed batches; data flows one way."""
